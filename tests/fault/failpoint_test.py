"""Failpoints and planted defects are there to be used: each in the sources is named by a test."""

import re

from messages import ROOT

_PLACE = re.compile(r'\b(?:Failpoint|Mutated)\(\s*"([\w.]+)"')
_FOLDERS = ("backends", "base", "client", "daemon", "shm", "tests")


def test_each_failpoint_is_used_by_a_test() -> None:
    places: dict[str, str] = {}
    tests = ""
    for folder in _FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix not in (".cc", ".h", ".py") or not path.is_file():
                continue
            text = path.read_text()
            if path.stem.endswith(("_test", "conformance")) or "tests" in path.parts:
                tests += text
            elif path.name != "failpoint.h":  # whose comment has examples
                places |= dict.fromkeys(_PLACE.findall(text), str(path.relative_to(ROOT)))
    assert len(places) > 10, "the sources are elsewhere"
    unused = {name: path for name, path in places.items() if f'"{name}"' not in tests}
    assert not unused, f"no test sets these: {unused}"
