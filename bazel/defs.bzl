"""The rules of this tree: C++ with our warnings and hardening, protos by the system's protoc."""

# No -Wconversion: in the reduction kernels it rejects ordinary int16 and float arithmetic (integer
# promotion), and the hundreds of casts would hide the few that matter. -Wsign-compare (in -Wextra)
# and UBSan stay.
_WARNINGS = [
    "-Wall",
    "-Wextra",
    # Designated initializers leave out what keeps its default.
    "-Wno-missing-field-initializers",
    "-Werror",
    "-Wshadow",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
    "-Wold-style-cast",
    "-Wcast-qual",
    "-Wimplicit-fallthrough",
    "-Wunused",
    "-Wformat=2",
    "-Wvla",
    "-Wextra-semi",
]

# FORTIFY needs optimisation and does not mix with ASan, so it is in the release config;
# position-independent code is for all configs (both in .bazelrc).
_HARDENING = [
    "-fstack-protector-strong",
]

_LINK_HARDENING = [
    "-pie",
    "-Wl,-z,relro,-z,now",
    "-Wl,-z,noexecstack",
]

# For whatever links the system's gRPC, which is not compiled with TSan.
TSAN_GRPC_OPTIONS = "ignore_noninstrumented_modules=1 suppressions=bazel/tsan_grpc.supp"

# For whatever links the system's Gloo, likewise.
_TSAN_GLOO_OPTIONS = "suppressions=bazel/tsan_gloo.supp"

def _copts(extra):
    return _WARNINGS + _HARDENING + (extra or [])

def tutti_cc_library(name, copts = None, **kwargs):
    native.cc_library(name = name, copts = _copts(copts), **kwargs)

def tutti_cc_binary(name, copts = None, linkopts = None, **kwargs):
    native.cc_binary(
        name = name,
        copts = _copts(copts),
        linkopts = _LINK_HARDENING + (linkopts or []),
        **kwargs
    )

def tutti_cc_test(
        name,
        main = True,
        grpc = False,
        gloo = False,
        size = "small",
        copts = None,
        data = None,
        deps = None,
        env = None,
        linkopts = None,
        **kwargs):
    """A Catch2 test (`main = False`: it brings its own main, and its exit code is the verdict).

    `grpc = True` for tests that link gRPC, `gloo = True` for those that link Gloo: they run with
    bazel/tsan_grpc.supp or bazel/tsan_gloo.supp under TSan, all others without any suppression.
    """
    env = dict(env or {})
    data = list(data or [])
    if grpc:
        data.append("//bazel:tsan_grpc.supp")
        env["TSAN_OPTIONS"] = TSAN_GRPC_OPTIONS
    if gloo:
        data.append("//bazel:tsan_gloo.supp")
        env["TSAN_OPTIONS"] = _TSAN_GLOO_OPTIONS
    native.cc_test(
        name = name,
        size = size,
        copts = _copts(copts),
        data = data,
        deps = (["//bazel/deps:catch2_main"] if main else []) + (deps or []),
        env = env,
        linkopts = _LINK_HARDENING + (linkopts or []),
        **kwargs
    )

def tutti_proto_library(name, srcs, grpc_srcs = None, visibility = None):
    """C++ from .proto files: messages of all `srcs`, and services of `grpc_srcs` (also in `srcs`).

    Call it in //proto only: that folder is the import root, so C++ includes "tutti/v1/client.pb.h".
    Generated code is compiled without our warnings, and included as a system header.
    """
    root = native.package_name()
    files = " ".join(["$(location %s)" % s for s in srcs])
    messages = [s.replace(".proto", ".pb." + e) for s in srcs for e in ("cc", "h")]
    native.genrule(
        name = name + "_messages",
        srcs = srcs,
        outs = messages,
        cmd = "/usr/bin/protoc -I%s --cpp_out=$(GENDIR)/%s %s" % (root, root, files),
        visibility = ["//visibility:private"],
    )
    services = []
    if grpc_srcs:
        services = [s.replace(".proto", ".grpc.pb." + e) for s in grpc_srcs for e in ("cc", "h")]
        native.genrule(
            name = name + "_services",
            srcs = srcs,
            outs = services,
            cmd = ("/usr/bin/protoc -I%s --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin " +
                   "--grpc_out=$(GENDIR)/%s %s") % (
                root,
                root,
                " ".join(["$(location %s)" % s for s in grpc_srcs]),
            ),
            visibility = ["//visibility:private"],
        )
    native.cc_library(
        name = name,
        srcs = [f for f in messages + services if f.endswith(".cc")],
        hdrs = [f for f in messages + services if f.endswith(".h")],
        copts = ["-w"],
        includes = ["."],
        visibility = visibility,
        deps = ["//bazel/deps:grpcpp" if grpc_srcs else "//bazel/deps:protobuf"],
    )

def tutti_proto_descriptor_set(name, srcs, visibility = None):
    """One FileDescriptorSet with all imports, without source positions: the wire, nothing else."""
    native.genrule(
        name = name,
        srcs = srcs,
        outs = [name + ".pb"],
        cmd = "/usr/bin/protoc -I%s --include_imports --descriptor_set_out=$@ %s" % (
            native.package_name(),
            " ".join(["$(location %s)" % s for s in srcs]),
        ),
        visibility = visibility,
    )
