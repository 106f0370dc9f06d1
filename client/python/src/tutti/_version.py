"""The version of the client library. Read by pyproject.toml without importing the package."""

__version__ = "0.1.0"
