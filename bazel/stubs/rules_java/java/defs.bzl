"""Stands in for rules_java: no Java is compiled here, but Bazel loads its toolchains for tests."""

java_binary = native.java_binary
java_import = native.java_import
java_library = native.java_library
java_proto_library = native.java_proto_library
java_runtime = native.java_runtime
java_toolchain = native.java_toolchain
