"""Building: from the tree, from a source distribution, and without a fitting protoc."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]
PROTO = PACKAGE.parents[1] / "proto"
MODULES = {"types_pb2", "session_pb2", "client_pb2"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of client/python in a copy of the repository, without what builds leave."""
    left = shutil.ignore_patterns("build", "dist", "*.egg-info", "*_pb2.py*", "__pycache__", ".*")
    copy = tmp_path / "client" / "python"
    shutil.copytree(PACKAGE, copy, ignore=left)
    shutil.copytree(PROTO, tmp_path / "proto")
    return copy


def build(where: Path, hook: str, **environment: str) -> Path:
    """Runs a hook of PEP 517, as pip does; returns the distribution."""
    out = where / "out"
    out.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; print('>' + build_meta.{hook}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=where,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return out / done.stdout.splitlines()[-1].removeprefix(">")


def check_wheel(wheel: Path, scratch: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl"), "pure Python"
    for module in MODULES:
        assert f"tutti/v1/{module}.py" in names
        assert f"tutti/v1/{module}.pyi" in names
    assert "tutti/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "examples"))]
    zipfile.ZipFile(wheel).extractall(scratch)
    code = "import tutti; from tutti.v1 import client_pb2; print(tutti.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(scratch)}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.startswith(str(scratch))


def test_wheel_from_the_tree(tree: Path, tmp_path: Path) -> None:
    check_wheel(build(tree, "build_wheel"), tmp_path / "x")
    assert not list((tree / "src").rglob("*_pb2.py")), "the tree stays as it is"


def test_wheel_from_a_source_distribution(tree: Path, tmp_path: Path) -> None:
    archive = build(tree, "build_sdist")
    alone = tmp_path / "alone"
    shutil.unpack_archive(archive, alone)
    (unpacked,) = alone.iterdir()
    assert not list(unpacked.rglob("*_pb2.py"))
    check_wheel(build(unpacked, "build_wheel"), tmp_path / "x")


def test_editable(tree: Path) -> None:
    build(tree, "build_editable")
    assert {path.stem for path in (tree / "src/tutti/v1").glob("*_pb2.py")} == MODULES


def test_no_protoc(tree: Path) -> None:
    with pytest.raises(RuntimeError, match="apt-get install protobuf-compiler"):
        build(tree, "build_wheel", PATH="")
    with pytest.raises(RuntimeError, match=r"can't run .*apt-get install protobuf-compiler"):
        build(tree, "build_wheel", PROTOC="/nonexistent")


@pytest.mark.parametrize("version", ["libprotoc 25.1", "libprotoc 3.6.1", "nonsense"])
def test_unfitting_protoc(tree: Path, tmp_path: Path, version: str) -> None:
    protoc = tmp_path / "protoc"
    protoc.write_text(f"#!/bin/sh\necho {version}\n")
    protoc.chmod(0o755)
    with pytest.raises(RuntimeError, match=rf"{version}.*protobuf-compiler"):
        build(tree, "build_wheel", PROTOC=str(protoc))


def test_source_tree_that_is_not_built(tree: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    code = "import sys; sys.path.insert(0, sys.argv[1]); import tutti"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tree / "src")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install ./client/python" in done.stderr
