"""Checks that are one command each: formatting, shell scripts, Python types."""

import pathlib
import shutil

import process
from report import Outcome, failed, passed, skipped


def clang_format(timeout_s: float) -> Outcome:
    files = process.tracked_files("*.h", "*.cc", "*.cu")
    if not files:
        return skipped("no C++ in the tree")
    if process.run(["clang-format", "--dry-run", "-Werror", *files], timeout_s) == 0:
        return passed()
    return failed("not formatted. To format: clang-format -i $(git ls-files -co '*.h' '*.cc')")


def is_shell_script(path: pathlib.Path) -> bool:
    if path.suffix in (".sh", ".bash"):
        return True
    if path.suffix:
        return False
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and (b"bash" in first or first.rstrip().endswith(b"sh"))


def shellcheck(timeout_s: float) -> Outcome:
    scripts = [name for name in process.tracked_files() if is_shell_script(process.ROOT / name)]
    if process.run(["shellcheck", "--external-sources", "--shell=bash", *scripts], timeout_s) == 0:
        return passed()
    return failed("shellcheck, see above")


def mypy(python: str, timeout_s: float) -> Outcome:
    """Checks what is installed, because that has the generated messages. A copy, because mypy takes
    everything beside a file in site-packages for its sibling."""
    if not (process.ROOT / "client/python/pyproject.toml").is_file():
        return skipped("client/python does not exist")
    find = "import importlib.util; print(importlib.util.find_spec('tutti').origin)"
    installed = pathlib.Path(process.output([python, "-c", find]).strip()).parent
    folder = process.ROOT / "build" / "mypy"
    shutil.rmtree(folder / "tutti", ignore_errors=True)
    shutil.copytree(installed, folder / "tutti", ignore=shutil.ignore_patterns("__pycache__"))
    command = [python, "-m", "mypy", "--strict", f"--cache-dir={folder}/cache"]
    command.append("--config-file=client/python/pyproject.toml")
    if process.run([*command, str(folder / "tutti")], timeout_s) == 0:
        return passed()
    return failed("mypy --strict, see above (build/mypy/tutti is client/python/src/tutti)")
