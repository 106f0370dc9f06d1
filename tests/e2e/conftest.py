"""Fixtures of the end-to-end tests: a real daemon. The binary comes from TUTTID."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Iterator

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

from daemon import DaemonProcess


@pytest.fixture(scope="module")
def daemon_of_module() -> Iterator[DaemonProcess]:
    """A daemon for all tests of a file."""
    _skip_without_binary()
    with pytest.MonkeyPatch.context() as patch, DaemonProcess() as process:
        patch.setenv("TUTTI_SOCKET_DIR", str(process.socket_dir))
        yield process
        assert process.terminate() == 0, process.log


@pytest.fixture
def daemon(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[DaemonProcess]:
    """A daemon that clients of this process and its children find. Parametrize it indirectly to
    give it settings.
    """
    _skip_without_binary()
    with DaemonProcess(getattr(request, "param", ())) as process:
        monkeypatch.setenv("TUTTI_SOCKET_DIR", str(process.socket_dir))
        yield process
        if process.is_alive():
            assert process.terminate() == 0, process.log


def _skip_without_binary() -> None:
    if "TUTTID" not in os.environ:
        pytest.skip("TUTTID is not set: the path of the daemon's binary")
