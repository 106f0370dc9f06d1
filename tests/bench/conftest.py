"""The benchmark's modules, as bench.py finds them, and the programs that the smoke tests run."""

import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import programs  # noqa: E402

_BINARIES = {"TUTTID": "tuttid", "TUTTI_CLI": "tutti"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The programs, with the daemon under test."""
    for variable in _BINARIES:
        if variable not in os.environ:
            pytest.skip(f"{variable} is not set: the path of a binary")
    given = os.environ.get("TUTTI_BENCH_BIN")
    built = pathlib.Path(given) if given else programs.build([], with_daemon=False)
    copies = tmp_path_factory.mktemp("bin")
    for program in built.iterdir():
        shutil.copy(program, copies)
    for variable, name in _BINARIES.items():
        shutil.copy(os.environ[variable], copies / name)
    return copies
