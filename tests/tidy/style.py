"""The style card as far as a script can check it: sizes, opening comments, words, changelog."""

import ast
import re
from collections.abc import Callable

from tree import Finding, is_test, matches, without_noise

COLUMNS_MAX = 100
HEADER_LINES_MAX = 200
SOURCE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

CPP = (".h", ".cc", ".cu", ".cuh")
CODE = CPP + (".py", ".sh", ".bzl", ".bazel", ".proto")


# A link, and the load of a BUILD file, which buildifier keeps on one line.
_UNBREAKABLE = re.compile(r"://|^load\(")


def check_columns(path: str, text: str) -> list[Finding]:
    return [
        Finding(path, number, f"{len(line)} columns, and at most {COLUMNS_MAX} fit")
        for number, line in enumerate(text.splitlines(), start=1)
        if len(line) > COLUMNS_MAX and not _UNBREAKABLE.search(line)
    ]


def check_file_size(path: str, text: str) -> list[Finding]:
    if is_test(path):
        return []
    lines = len(text.splitlines())
    # "Under", as the style card says.
    limit = HEADER_LINES_MAX if path.endswith(".h") else SOURCE_LINES_MAX
    if lines < limit:
        return []
    return [Finding(path, lines, f"{lines} lines, and the limit is {limit}: is it one idea?")]


def check_opening(path: str, text: str) -> list[Finding]:
    if not path.endswith(".h") or text.startswith(("//", "/*")):
        return []
    return [Finding(path, 1, "a header starts with a comment: what it is, its thread, its owner")]


_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)


def _line(code: str, position: int) -> int:
    return code.count("\n", 0, position) + 1


def _closing_brace(code: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(code)):
        depth += {"{": 1, "}": -1}.get(code[position], 0)
        if depth == 0:
            return position
    return len(code) - 1


def _cpp_functions(text: str) -> list[tuple[int, int]]:
    """First and last line of each function: a head with a parameter list, and a body in braces."""
    code = without_noise(text)
    code = _DIRECTIVE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), code)
    functions = []
    # Where the declaration began that the next brace may end.
    head = 0
    position = 0
    while position < len(code):
        if code[position] in ";}":
            head = position + 1
        elif code[position] == "{":
            words = code[head:position]
            if "(" not in words and _SCOPE.search(words):
                head = position + 1
            else:
                end = _closing_brace(code, position)
                # `: member_{1}, ... {`: a part of a constructor's head.
                if not ("(" in words and re.match(r"\s*[,{]", code[end + 1 :])):
                    first = head + len(words) - len(words.lstrip())
                    if "(" in words:
                        functions.append((_line(code, first), _line(code, end)))
                    head = end + 1
                position = end
        position += 1
    return functions


def _python_functions(text: str) -> list[tuple[int, int]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [(node.lineno, node.end_lineno or node.lineno) for node in nodes]


def check_function_size(path: str, text: str) -> list[Finding]:
    """Best effort: it may miss a function that is laid out oddly, but what it finds is long."""
    if is_test(path):
        return []
    if path.endswith(CPP):
        functions = _cpp_functions(text)
    elif path.endswith(".py"):
        functions = _python_functions(text)
    else:
        return []
    return [
        Finding(path, first, f"a function of {last - first + 1} lines: under {FUNCTION_LINES_MAX}")
        for first, last in functions
        if last - first + 1 >= FUNCTION_LINES_MAX
    ]


class Banned:
    """A word that has a better one here. `allowed`: paths that start so may use it."""

    def __init__(self, pattern: str, instead: str, allowed: tuple[str, ...] = ()) -> None:
        self._pattern = re.compile(pattern)
        self._instead = instead
        self._allowed = allowed

    def check(self, path: str, text: str) -> list[Finding]:
        if path.startswith(self._allowed or ("\0",)):
            return []
        lines = matches(self._pattern, text)
        return [Finding(path, line, self._instead) for line in lines]


_BANNED_CPP = (
    Banned(
        r"\bstd::(j?thread\b(?!::)|async\b)|\bpthread_create\b",
        "threads are made in base/ only: use tutti::Thread or a TaskRunner (base/thread.h)",
        # The canaries plant races, and nothing of ours may stand between TSan and the fault.
        allowed=("base/", "tests/canary/"),
    ),
    Banned(
        r"\b(sleep_for|sleep_until|SleepFor|usleep|nanosleep|clock_nanosleep)\b"
        r"|(?<![\w.>:])sleep\s*\(",
        "nothing sleeps: wait for the event; in tests step a FakeClock (base/testing/fake_clock.h)",
    ),
    Banned(
        r"\bcatch\s*\(",
        "no exceptions: absl::Status; Gloo and CLI11 throw, and are caught where they are called",
        allowed=("backends/gloo/", "client/cli/main.cc"),
    ),
    Banned(
        r"\b(Wait|Await|LockWhen|ReaderLockWhen|WriterLockWhen|WaitForNotification)"
        r"With(Timeout|Deadline)\b",
        "Abseil's timed waits use the wall clock: use base/clock.h and a deadline of a TaskRunner",
        allowed=("base/clock",),
    ),
    Banned(
        r"\bsystem_clock\b",
        "the wall clock jumps: use MonotonicTime (base/clock.h)",
        allowed=("base/clock",),
    ),
)

_BANNED_PYTHON_PRODUCT = (
    Banned(
        r"\btime\s*\.\s*sleep\b|\bfrom\s+time\s+import\b[^\n]*\bsleep\b",
        "nothing sleeps: wait for the event with a deadline (poll, select, asyncio.wait_for)",
    ),
)

_BANNED_IN_COMMENTS = (
    Banned(r"\bTODO\b(?!\(\w[\w.-]*\))", "a TODO names its owner: TODO(name)"),
    Banned(r"\b(FIXME|XXX)\b", "no such marks: TODO(name), or an ADR for what comes later"),
    Banned(
        r"\bNOLINT(NEXTLINE|BEGIN)?\b(?!(\([\w.,*\- ]+\))?: +\w)",
        "a NOLINT says its reason: NOLINT(check): reason",
    ),
)

# They name the words that they ban.
_OWN_FILES = ("tests/tidy/",)


def check_banned(path: str, text: str) -> list[Finding]:
    if path.startswith(_OWN_FILES):
        return []
    findings = []
    for banned in _BANNED_IN_COMMENTS:
        findings += banned.check(path, text)
    if path.endswith(CPP):
        code = without_noise(text)
        for banned in _BANNED_CPP:
            findings += banned.check(path, code)
    if path.endswith(".py") and path.startswith("client/python/") and not is_test(path):
        for banned in _BANNED_PYTHON_PRODUCT:
            findings += banned.check(path, text)
    return findings


_RELEASE = re.compile(r"## (Unreleased|\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\))")


def check_changelog(path: str, text: str) -> list[Finding]:
    """A title, sections `## Unreleased` or `## 1.2.3 (2026-01-31)`, in them one item a change."""
    lines = text.splitlines()
    findings = []
    if not lines or lines[0] != "# Changelog":
        findings.append(Finding(path, 1, "starts with '# Changelog'"))
    releases = [number for number, line in enumerate(lines) if line.startswith("## ")]
    if not releases:
        findings.append(Finding(path, len(lines), "no section: '## Unreleased' or a release"))
    for number in releases:
        if not _RELEASE.fullmatch(lines[number]):
            wanted = "'## Unreleased' or '## 1.2.3 (2026-01-31)'"
            findings.append(Finding(path, number + 1, f"a section is {wanted}"))
    for number in range(releases[0] + 1 if releases else 0, len(lines)):
        line = lines[number]
        if re.match(r"\S", line) and not re.match(r"(\*|-|##|###) \S", line):
            message = "a change is one item: '* what users notice'"
            findings.append(Finding(path, number + 1, message))
    return findings


def check_is_built(path: str, name: str, build_file: str) -> list[Finding]:
    """`build_file`: the text of the BUILD.bazel nearest above `path`, where it is called `name`."""
    # A list of tests may make the names of the files from those of the targets.
    target = name.removesuffix(".cc")
    if "glob(" in build_file or f'"{name}"' in build_file or f'"{target}"' in build_file:
        return []
    return [Finding(path, 1, "not in any target of its BUILD.bazel: nothing compiles it")]


CHECKS: tuple[Callable[[str, str], list[Finding]], ...] = (
    check_columns,
    check_file_size,
    check_opening,
    check_function_size,
    check_banned,
)
