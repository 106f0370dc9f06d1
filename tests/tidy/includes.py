"""Who may include what: the arrows between the parts, as a table and a checker.

Bazel's visibility does not stop an include of a system header (a target without any dependency may
include <grpcpp/grpcpp.h>), and lets a folder add any dependency that its own BUILD file asks for.
So the arrows are checked where they show: in the text of the includes.
"""

import re

from tree import Finding, is_test

# Part -> the parts whose headers it may include, itself aside. A part is a folder with all that is
# below it, unless a longer name of this table fits.
ARROWS: dict[str, set[str]] = {
    "base": set(),
    "proto": {"base"},
    "shm": {"base"},
    "backends": {"base"},
    "backends/local": {"backends", "base"},
    "backends/gloo": {"backends/local", "backends", "base"},
    "backends/nccl": {"backends", "base"},
    "daemon/cluster": {"base"},
    "daemon/core": {"daemon/cluster", "backends", "shm", "base"},
    "daemon/config": {"daemon/core", "proto", "base"},
    "daemon/transport": {"daemon/core", "proto", "backends", "shm", "base"},
    "daemon/peer": {"daemon/cluster", "daemon/core", "daemon/transport", "proto", "base"},
    "daemon": {
        "daemon/core",
        "daemon/config",
        "daemon/transport",
        "daemon/peer",
        "backends",
        "backends/local",
        "backends/gloo",
        "backends/nccl",
        "proto",
        "shm",
        "base",
    },
    "client/cpp": {"shm", "proto", "base"},
    "client/cli": {"proto", "base"},
}

# These two are only the files directly in them, the daemon's main and the interface of the
# backends: a folder below them is a part of its own.
_WITHOUT_FOLDERS = ("daemon", "backends")

# Parts that speak gRPC and protobuf.
_WIRE = (
    "proto",
    "daemon",
    "daemon/config",
    "daemon/transport",
    "daemon/peer",
    "client/cpp",
    "client/cli",
)

# What an include starts with -> the parts that may have it. The first that fits counts.
LIBRARIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"grpc/health/v1/\w+(\.grpc)?\.pb\.h$", _WIRE),
    (r"tutti/v1/\w+(\.grpc)?\.pb\.h$", _WIRE),
    (r"etcd/v3/\w+(\.grpc)?\.pb\.h$", ("daemon/peer",)),
    (r"(grpc|grpcpp|grpc\+\+)/", _WIRE),
    (r"google/(protobuf|rpc)/", _WIRE),
    (r"gloo/", ("backends/gloo",)),
    (r"openssl/", ("daemon/peer", "client/cli")),
    (r"(cuda|cublas|cudnn|nvml|nvrtc|nvtx)", ("backends/nccl",)),
    (r"nccl", ("backends/nccl",)),
    (r"(spdlog|fmt)/", ("base",)),
    (r"CLI/", ("client/cli", "daemon")),
)

_TEST_LIBRARIES = re.compile(r"catch2/|\w+/(\w+/)*testing/")

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)


def part_of(path: str) -> str | None:
    """The part that holds `path`; None outside of all (tests/ and bazel/ may include anything)."""
    # What only the tests of a part use belongs to it.
    folder = path.rpartition("/")[0].removesuffix("/testing")
    fitting = [part for part in ARROWS if f"{folder}/".startswith(f"{part}/")]
    part = max(fitting, key=len, default=None)
    return None if part in _WITHOUT_FOLDERS and folder != part else part


def _check_library(part: str, name: str) -> str | None:
    for pattern, allowed in LIBRARIES:
        if re.match(pattern, name):
            if part in allowed:
                return None
            return f"{part} may not know <{name}>; only {', '.join(allowed)} may"
    return None


def _check_own(part: str, name: str) -> str | None:
    target = part_of(name)
    if target is None:
        # Absl, and other libraries that anyone may use, are quoted too.
        return None
    if target == part or target in ARROWS[part]:
        return None
    allowed = ", ".join(sorted(ARROWS[part])) or "nothing else"
    return f'{part} may not include "{name}": it may use {allowed}'


def check(path: str, text: str) -> list[Finding]:
    part = part_of(path)
    if part is None:
        return []
    findings = []
    for match in _INCLUDE.finditer(text):
        name = match.group(2)
        line = text.count("\n", 0, match.start()) + 1
        message = _check_library(part, name) or _check_own(part, name)
        if message is None and _TEST_LIBRARIES.match(name) and not is_test(path):
            message = f'only tests may include "{name}"'
        if message is None and name.startswith(("./", "../")):
            message = f'"{name}": includes are relative to the top of the tree'
        if message is not None:
            findings.append(Finding(path, line, message))
    return findings
