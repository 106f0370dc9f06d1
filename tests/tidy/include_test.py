"""The arrows between the parts hold in the tree; and the checker finds those that would not."""

import pytest

import includes
import tree

_CPP = (".h", ".cc", ".cu", ".cuh")


def test_tree():
    findings = []
    for path in tree.files(*_CPP):
        findings += includes.check(path, tree.read(path))
    assert not findings, "\n" + "\n".join(str(finding) for finding in findings)


def test_every_folder_of_the_product_has_its_arrows():
    product = ("base/", "shm/", "backends/", "daemon/", "client/", "proto/")
    unknown = {
        path.rsplit("/", 1)[0]
        for path in tree.files(*_CPP)
        if path.startswith(product) and includes.part_of(path) is None
    }
    assert not unknown, f"not in tests/tidy/includes.py: {sorted(unknown)}"


@pytest.mark.parametrize(
    "path, part",
    [
        ("base/testing/fake_clock.h", "base"),
        ("backends/backend.h", "backends"),
        ("backends/testing/conformance.h", "backends"),
        ("backends/local/kernels.h", "backends/local"),
        ("backends/new/new.h", None),
        ("daemon/main.cc", "daemon"),
        ("daemon/core/core.h", "daemon/core"),
        ("daemon/new/new.h", None),
        ("client/cpp/examples/sum.cc", "client/cpp"),
        ("tests/bench/bench.cc", None),
        ("basement/a.h", None),
    ],
)
def test_knows_the_parts(path, part):
    assert includes.part_of(path) == part


_FORBIDDEN = (
    ("base/a.cc", '#include "shm/ring.h"'),
    ("shm/a.cc", '#include "daemon/core/core.h"'),
    ("backends/backend.h", '#include "backends/local/local.h"'),
    ("backends/local/a.cc", '#include "backends/gloo/gloo.h"'),
    ("backends/local/a.cc", '#include "daemon/core/core.h"'),
    ("daemon/core/a.cc", '#include "backends/local/local.h"'),
    ("daemon/core/a.cc", '#include "daemon/transport/ring.h"'),
    ("daemon/core/a_test.cc", '#include "backends/local/local.h"'),
    ("daemon/core/a.cc", "#include <grpcpp/grpcpp.h>"),
    ("daemon/core/a.cc", "  #  include <grpcpp/grpcpp.h>"),
    ("daemon/core/a.cc", "#include <google/protobuf/message.h>"),
    ("daemon/core/a.cc", '#include "tutti/v1/client.pb.h"'),
    ("daemon/core/a.cc", "#include <tutti/v1/client.grpc.pb.h>"),
    ("daemon/core/a.cc", '#include "proto/convert.h"'),
    ("daemon/core/a.cc", "#include <gloo/context.h>"),
    ("daemon/core/a.cc", "#include <cuda_runtime.h>"),
    ("daemon/core/a.cc", "#include <nccl.h>"),
    ("daemon/core/a.cc", "#include <spdlog/spdlog.h>"),
    ("daemon/transport/a.cc", '#include "backends/local/local.h"'),
    ("daemon/transport/a.cc", '#include "daemon/peer/peer.h"'),
    ("client/cpp/a.cc", '#include "daemon/core/core.h"'),
    ("client/cpp/a.cc", "#include <cuda.h>"),
    ("client/cli/a.cc", '#include "shm/ring.h"'),
    ("daemon/core/a.cc", '#include "base/testing/fake_clock.h"'),
    ("daemon/core/a.cc", "#include <catch2/catch.hpp>"),
    ("daemon/core/a.cc", '#include "../core/b.h"'),
)

_ALLOWED = (
    ("daemon/core/a.cc", '#include "daemon/core/b.h"'),
    ("daemon/core/a.cc", '#include "backends/backend.h"'),
    ("daemon/core/a.cc", '#include "absl/status/status.h"'),
    ("daemon/core/a.cc", "#include <sys/epoll.h>"),
    ("daemon/core/a.cc", '// #include "daemon/transport/ring.h"'),
    ("daemon/core/a_test.cc", '#include "base/testing/fake_clock.h"'),
    ("daemon/core/a_test.cc", "#include <catch2/catch.hpp>"),
    ("backends/local/a_test.cc", '#include "backends/testing/conformance.h"'),
    ("backends/gloo/a.cc", "#include <gloo/context.h>"),
    ("backends/gloo/a.cc", '#include "backends/local/kernels.h"'),
    ("backends/nccl/a.cc", "#include <cuda_runtime.h>"),
    ("daemon/transport/a.cc", '#include "tutti/v1/client.grpc.pb.h"'),
    ("daemon/main.cc", '#include "backends/local/local.h"'),
    ("client/cpp/a.cc", "#include <grpcpp/grpcpp.h>"),
    ("base/log.h", "#include <spdlog/spdlog.h>"),
    ("tests/bench/a.cc", '#include "backends/local/local.h"'),
)


@pytest.mark.parametrize("path, line", _FORBIDDEN)
def test_finds_a_forbidden_include(path, line):
    findings = includes.check(path, f"// What it is.\n\n{line}\n")
    assert [finding.line for finding in findings] == [3]


@pytest.mark.parametrize("path, line", _ALLOWED)
def test_accepts(path, line):
    assert not includes.check(path, f"{line}\n")
