"""The files of the tree, and what a checker says about one of them."""

import dataclasses
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Finding:
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def files(*suffixes: str) -> list[str]:
    """Files that git knows or would add, with one of these endings, relative to the top."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = sorted(set(listed.split("\0")))
    return [name for name in names if name.endswith(suffixes) and (ROOT / name).is_file()]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def is_test(path: str) -> bool:
    """Tests and what only tests use: free of the limits of size, not of the banned words."""
    return (
        path.startswith("tests/")
        or "/testing/" in path
        or "/tests/" in path
        or re.search(r"_test\.\w+$", path) is not None
    )


_CPP_NOISE = re.compile(
    r"""//[^\n]*                              # a comment to the end of the line
      | /\*.*?\*/                             # a comment that may span lines
      | R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)"    # a raw string
      | "(?:\\.|[^"\\\n])*"                   # a string
      | '(?:\\.|[^'\\\n])'                    # a character (but not 1'000'000)
    """,
    re.X | re.S,
)


def without_noise(text: str) -> str:
    """C++ with comments and strings blanked out, line by line as long as it was."""
    return _CPP_NOISE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def matches(pattern: re.Pattern[str], text: str) -> list[int]:
    """Numbers of the lines where `pattern` is found."""
    return [text.count("\n", 0, match.start()) + 1 for match in pattern.finditer(text)]
