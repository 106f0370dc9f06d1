"""The style of the tree is a test. Each rule is also shown a violation, and must find it."""

import pathlib

import pytest

import style
import tree


def _show(findings: list[tree.Finding]) -> str:
    return "\n".join(str(finding) for finding in findings)


def _extensionless_scripts() -> list[str]:
    folders = ("deploy/", "tests/", ".ci/")
    names = [name for name in tree.files("") if name.startswith(folders)]
    return [name for name in names if not pathlib.PurePath(name).suffix]


@pytest.mark.parametrize("check", style.CHECKS, ids=lambda check: check.__name__)
def test_tree(check):
    findings = []
    for path in tree.files(*style.CODE) + _extensionless_scripts():
        findings += check(path, tree.read(path))
    assert not findings, "\n" + _show(findings)


def test_changelog_of_the_tree():
    findings = style.check_changelog("CHANGELOG.md", tree.read("CHANGELOG.md"))
    assert not findings, "\n" + _show(findings)


def test_every_source_is_built():
    """What no target names is not compiled, not tested, and not missed."""
    findings = []
    for path in tree.files(".h", ".cc"):
        folder = pathlib.PurePath(path).parent
        while not (tree.ROOT / folder / "BUILD.bazel").exists():
            folder = folder.parent
        build_file = tree.read(str(folder / "BUILD.bazel"))
        name = str(pathlib.PurePath(path).relative_to(folder))
        findings += style.check_is_built(path, name, build_file)
    assert not findings, "\n" + _show(findings)


def test_finds_a_long_line():
    text = "short\n" + "x" * 101 + "\n"
    assert [f.line for f in style.check_columns("base/a.cc", text)] == [2]
    assert not style.check_columns("base/a.cc", "x" * 100 + "\n")


def test_finds_a_long_file():
    assert style.check_file_size("base/a.h", "//\n" * 200)
    assert not style.check_file_size("base/a.h", "//\n" * 199)
    assert style.check_file_size("base/a.cc", "//\n" * 400)
    assert not style.check_file_size("base/a.cc", "//\n" * 399)
    assert not style.check_file_size("base/a_test.cc", "//\n" * 400)


def test_finds_a_header_without_a_comment():
    assert style.check_opening("base/a.h", "#pragma once\n")
    assert not style.check_opening("base/a.h", "// What it is.\n#pragma once\n")


_SIGNATURES = (
    "void F() {",
    "absl::StatusOr<std::vector<int>> Class::F(int a, std::string b) const {",
    "  int Method(int a) const override {",
    "Class::Class(int a)\n    : a_(a), b_{1} {",
    "std::vector<std::pair<int, int>> LongName(int a,\n                        int b) {",
    "auto F(int a) -> int {",
    "TEST(int) noexcept {",
)


@pytest.mark.parametrize("signature", _SIGNATURES)
def test_finds_a_long_cpp_function(signature):
    indent = " " * (len(signature) - len(signature.lstrip()))
    head = signature.count("\n") + 1

    def text(lines):
        body = f"{indent}  if (x) {{\n{indent}  }}\n" * ((lines - head - 1) // 2)
        body += f"{indent}  x();\n" * ((lines - head - 1) % 2)
        return f"namespace tutti {{\n\n{signature}\n{body}{indent}}}\n\n}}  // namespace\n"

    assert [f.line for f in style.check_function_size("base/a.cc", text(70))] == [3]
    assert not style.check_function_size("base/a.cc", text(69))
    assert not style.check_function_size("base/a.cc", text(40) + text(40))


def test_a_long_class_is_no_long_function():
    text = "class A {\n public:\n" + "  int F() { return 1; }\n" * 100 + "};\n"
    assert not style.check_function_size("base/a.h", text)


def test_finds_a_long_python_function():
    text = "def f():\n" + "    x = 1\n" * 69
    assert style.check_function_size("client/python/tutti/a.py", text)
    assert not style.check_function_size("client/python/tutti/a.py", text[:-10])


# Path, line, and whether it is allowed.
_PLANTED = (
    ("daemon/core/a.cc", "std::thread t(f);", False),
    ("daemon/core/a_test.cc", "std::jthread t(f);", False),
    ("daemon/core/a.cc", "auto f = std::async(g);", False),
    ("daemon/core/a.cc", "pthread_create(&t, nullptr, f, nullptr);", False),
    ("base/thread.cc", "std::thread t(f);", True),
    ("daemon/core/a.cc", "n = std::thread::hardware_concurrency();", True),
    ("daemon/core/a.cc", "// like std::thread t;", True),
    ("daemon/core/a.cc", 'Log("std::thread t");', True),
    ("shm/a_test.cc", "std::this_thread::sleep_for(1s);", False),
    ("shm/a.cc", "absl::SleepFor(absl::Seconds(1));", False),
    ("shm/a.cc", "usleep(10);", False),
    ("shm/a.cc", "sleep(1);", False),
    ("shm/a.cc", "::nanosleep(&t, nullptr);", False),
    ("shm/a.cc", "queue.GoToSleep();", True),
    ("shm/a.cc", "} catch (const std::exception& e) {", False),
    ("backends/gloo/a.cc", "} catch (const std::exception& e) {", True),
    ("client/cli/main.cc", "} catch (const CLI::ParseError& e) {", True),
    ("client/cli/watch.cc", "} catch (const CLI::ParseError& e) {", False),
    ("daemon/core/a.cc", "mutex.AwaitWithTimeout(c, t);", False),
    ("daemon/core/a.cc", "condition.WaitWithTimeout(&mutex, t);", False),
    ("daemon/core/a.cc", "n.WaitForNotificationWithTimeout(t);", False),
    ("daemon/core/a.cc", "n.WaitForNotificationWithDeadline(t);", False),
    ("base/clock_wait.cc", "n.WaitForNotificationWithTimeout(t);", True),
    ("daemon/core/a.cc", "std::chrono::system_clock::now();", False),
    ("base/clock.cc", "std::chrono::system_clock::now();", True),
    ("client/python/tutti/a.py", "time.sleep(1)", False),
    ("client/python/src/tutti/a.py", "from time import monotonic, sleep", False),
    ("client/python/tests/test_a.py", "time.sleep(1)", True),
    ("daemon/core/a.cc", "// TODO: later", False),
    ("daemon/core/a.cc", "// TODO(ada): later", True),
    ("deploy/install", "# FIXME", False),
    ("daemon/core/a.cc", "x = y;  // NOLINT", False),
    ("daemon/core/a.cc", "x = y;  // NOLINT: the syscall wants a long", True),
    ("daemon/core/a.cc", "x = y;  // NOLINT(google-runtime-int)", False),
    ("daemon/core/a.cc", "x = y;  // NOLINT(google-runtime-int): the syscall wants a long", True),
)


@pytest.mark.parametrize("path, line, allowed", _PLANTED)
def test_finds_a_banned_word(path, line, allowed):
    findings = style.check_banned(path, "// first\n\n" + line + "\n")
    assert [finding.line for finding in findings] == ([] if allowed else [3])


def test_reads_past_strings_and_comments():
    text = '/* a\n */ f(R"x(catch (")x", "\\"", 1\'000, \'"\');\nsleep(1);\n'
    assert [finding.line for finding in style.check_banned("shm/a.cc", text)] == [3]


_GOOD_CHANGELOG = """\
# Changelog

## Unreleased

* One thing,
  explained.

## 0.1.0 (2026-01-31)

- Two
"""


def test_accepts_a_changelog():
    assert not style.check_changelog("CHANGELOG.md", _GOOD_CHANGELOG)


@pytest.mark.parametrize(
    "old, new",
    [
        ("# Changelog", "# Changes"),
        ("## Unreleased", "## Next"),
        ("(2026-01-31)", "31 January"),
        ("* One thing", "One thing"),
        ("## ", "### "),
    ],
)
def test_finds_a_bad_changelog(old, new):
    assert style.check_changelog("CHANGELOG.md", _GOOD_CHANGELOG.replace(old, new))


def test_finds_a_source_that_nothing_builds():
    assert style.check_is_built("base/a.cc", "a.cc", 'srcs = ["aa.cc"]')
    assert not style.check_is_built("base/a.cc", "a.cc", 'srcs = ["a.cc"]')
    assert style.check_is_built("base/a_test.cc", "a_test.cc", 'name = "test"')
    assert not style.check_is_built("base/a_test.cc", "a_test.cc", 'for name in ["a_test"]')
