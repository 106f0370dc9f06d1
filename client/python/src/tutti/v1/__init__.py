"""The messages of the wire, generated from proto/tutti/v1 when the package is built."""
