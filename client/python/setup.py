"""Generates the messages of tutti.v1 with the system's protoc when the package is built.

Everything else is in pyproject.toml. The .proto files are those of the repository (../../proto); a
source distribution carries its own copy beside this file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
PROTOS = ("tutti/v1/types.proto", "tutti/v1/session.proto", "tutti/v1/client.proto")


def proto_root() -> Path:
    """The folder that holds tutti/v1/*.proto."""
    for root in (HERE / "proto", HERE.parent.parent / "proto"):
        if (root / PROTOS[0]).is_file():
            return root
    raise SystemExit(f"tutti: {PROTOS[0]} is neither in {HERE} nor in {HERE.parent.parent}/proto")


def find_protoc() -> str:
    """The path of a protoc 3. What newer ones write demands a runtime as new as they are."""
    advice = "install it with: apt-get install protobuf-compiler (or set PROTOC to its path)"
    protoc = os.environ.get("PROTOC") or shutil.which("protoc")
    if protoc is None:
        raise SystemExit(f"tutti: building needs protoc 3.21, and there is no protoc; {advice}")
    try:
        said = subprocess.run([protoc, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"tutti: can't run {protoc}: {error}; {advice}") from error
    if not re.match(r"libprotoc 3\.(2\d)\.", said.stdout):
        raise SystemExit(
            f"tutti: building needs protoc 3.21 (3.20 or later of the 3 line), and {protoc} is "
            f"{said.stdout.strip()!r}; {advice}"
        )
    return protoc


def generate(target: Path) -> None:
    """Writes tutti/v1/*_pb2.py and their .pyi below `target`."""
    protoc, root = find_protoc(), proto_root()
    target.mkdir(parents=True, exist_ok=True)
    command = [protoc, f"-I{root}", f"--python_out={target}", f"--pyi_out={target}"]
    done = subprocess.run([*command, *PROTOS], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"tutti: protoc failed:\n{done.stderr}")


class BuildPy(build_py):
    """Adds the generated modules; to the source tree if the install is an editable one."""

    def run(self) -> None:
        super().run()
        generate(HERE / "src" if self.editable_mode else Path(self.build_lib))


class Sdist(sdist):
    """Adds the .proto files, so that the distribution builds without the repository."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        root = proto_root()
        for name in PROTOS:
            copy = Path(base_dir) / "proto" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, copy)


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
