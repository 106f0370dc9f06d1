"""What a process calls itself in `tutti sessions`."""

from pathlib import Path

import pytest

from tutti import _paths


def test_rays_titles_are_taken(tmp_path: Path) -> None:
    title = tmp_path / "cmdline"
    title.write_bytes(b"ray::Trainer.step\0\0\0")
    assert _paths.own_name(str(title)) == "ray::Trainer.step"


@pytest.mark.parametrize("content", [b"", b"/usr/bin/python3\0train.py\0"])
def test_others_are_named_by_their_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    title = tmp_path / "cmdline"
    title.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["/work/train.py", "--epochs"])
    assert _paths.own_name(str(title)) == "train.py"
    monkeypatch.setattr("sys.argv", [""])
    assert _paths.own_name(str(tmp_path / "none")) == "python"
