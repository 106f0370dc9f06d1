"""The wire as a checked-in text: proto/api.txtpb is the compiled form of proto/**/*.proto.

A change of the wire then shows as such in every review, whatever the .proto files look like. Also
holds the rules for what a .proto must say, and for what may not change. tests/update_descriptor
runs this file.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from google.protobuf import descriptor_pb2, text_format

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
API = PROTO / "api.txtpb"

_HEADER = """\
# proto-file: google/protobuf/descriptor.proto
# proto-message: google.protobuf.FileDescriptorSet
#
# The wire, compiled from the .proto files beside it. Made by tests/update_descriptor: do not edit.
"""

# Other projects': their names were fixed before we had rules.
_FOREIGN = ("grpc/", "etcd/")

# Numbers of fields in descriptor.proto, of which SourceCodeInfo makes its paths.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE, _FILE_EXTENSION = 4, 5, 6, 7
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE = 2
_SERVICE_METHOD = 2

_Path = tuple[int, ...]
_Set = descriptor_pb2.FileDescriptorSet
_File = descriptor_pb2.FileDescriptorProto
_Message = descriptor_pb2.DescriptorProto
_Enum = descriptor_pb2.EnumDescriptorProto


def _protoc(*arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["protoc", *arguments], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode())
    return done.stdout


def _protos(root: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.proto"))


def compile_set(root: pathlib.Path, source_info: bool = False) -> _Set:
    """All .proto files below `root`, without what they import from elsewhere."""
    with tempfile.NamedTemporaryFile() as output:
        options = ["--include_source_info"] if source_info else []
        _protoc(f"-I{root}", f"--descriptor_set_out={output.name}", *options, *_protos(root))
        return _Set.FromString(pathlib.Path(output.name).read_bytes())


def as_text(root: pathlib.Path) -> str:
    """protoc writes it, because it knows our own options; JSON names follow from the names."""
    descriptor = "--decode=google.protobuf.FileDescriptorSet"
    files = ["google/protobuf/descriptor.proto", *_protos(root)]
    compiled = compile_set(root).SerializeToString()
    text = _protoc(f"-I{root}", descriptor, *files, stdin=compiled).decode()
    lines = [line for line in text.splitlines() if not line.strip().startswith("json_name:")]
    return _HEADER + "\n".join(lines) + "\n"


def from_text(text: str) -> _Set:
    return text_format.Parse(text, _Set(), allow_unknown_extension=True)


# ---- What a .proto must say ----


def _in_enum(enum: _Enum, path: _Path, scope: str) -> Iterator[tuple[str, _Path]]:
    yield f"{scope}.{enum.name}", path
    for i, value in enumerate(enum.value):
        yield f"{scope}.{enum.name}.{value.name}", (*path, _ENUM_VALUE, i)


def _in_message(message: _Message, path: _Path, scope: str) -> Iterator[tuple[str, _Path]]:
    name = f"{scope}.{message.name}"
    yield name, path
    for i, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, _MESSAGE_FIELD, i)
    for i, enum in enumerate(message.enum_type):
        yield from _in_enum(enum, (*path, _MESSAGE_ENUM, i), name)
    for i, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _in_message(nested, (*path, _MESSAGE_NESTED, i), name)


def _in_file(file: _File) -> Iterator[tuple[str, _Path]]:
    """Everything that needs a comment: its full name, and its path in SourceCodeInfo."""
    for i, message in enumerate(file.message_type):
        yield from _in_message(message, (_FILE_MESSAGE, i), file.package)
    for i, enum in enumerate(file.enum_type):
        yield from _in_enum(enum, (_FILE_ENUM, i), file.package)
    for i, extension in enumerate(file.extension):
        yield f"{file.package}.{extension.name}", (_FILE_EXTENSION, i)
    for i, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield name, (_FILE_SERVICE, i)
        for j, method in enumerate(service.method):
            yield f"{name}.{method.name}", (_FILE_SERVICE, i, _SERVICE_METHOD, j)


def without_comment(files: _Set) -> list[str]:
    """Names of ours without a comment above or behind them. `files` compiled with source info."""
    found = []
    for file in _ours(files).file:
        commented = {
            tuple(location.path)
            for location in file.source_code_info.location
            if location.leading_comments.strip() or location.trailing_comments.strip()
        }
        found += [name for name, path in _in_file(file) if path not in commented]
    return found


def _ours(files: _Set) -> _Set:
    return _Set(file=[file for file in files.file if not file.name.startswith(_FOREIGN)])


def _messages(files: _Set) -> Iterator[tuple[str, _Message]]:
    def walk(messages: Iterator[_Message], scope: str) -> Iterator[tuple[str, _Message]]:
        for message in messages:
            name = f"{scope}.{message.name}"
            yield name, message
            yield from walk(iter(message.nested_type), name)

    for file in files.file:
        yield from walk(iter(file.message_type), file.package)


def _enums(files: _Set) -> Iterator[tuple[str, _Enum]]:
    for file in files.file:
        for enum in file.enum_type:
            yield f"{file.package}.{enum.name}", enum
    for name, message in _messages(files):
        for enum in message.enum_type:
            yield f"{name}.{enum.name}", enum


def without_unspecified(files: _Set) -> list[str]:
    """Enums of ours whose zero, which is what an older sender says, does not mean 'not said'."""
    return [
        name
        for name, enum in _enums(_ours(files))
        if enum.value[0].number != 0 or not enum.value[0].name.endswith("_UNSPECIFIED")
    ]


# ---- What may not change ----


def _kind(field: descriptor_pb2.FieldDescriptorProto) -> tuple[str, int, int, str]:
    return field.name, field.type, field.label, field.type_name


def _message_changes(name: str, old: _Message, new: _Message) -> Iterator[str]:
    by_number = {field.number: field for field in new.field}
    for field in old.field:
        now = by_number.get(field.number)
        if now is None:
            if not any(r.start <= field.number < r.end for r in new.reserved_range):
                yield f"{name}: {field.number} ({field.name}) is gone, and not reserved"
        elif _kind(now) != _kind(field):
            yield f"{name}: {field.number} was {field.name}, and is now another field: {now.name}"


def _enum_changes(name: str, old: _Enum, new: _Enum) -> Iterator[str]:
    by_number = {value.number: value.name for value in new.value}
    for value in old.value:
        now = by_number.get(value.number)
        if now is None:
            # Unlike those of messages, these ranges include their end.
            if not any(r.start <= value.number <= r.end for r in new.reserved_range):
                yield f"{name}: {value.number} ({value.name}) is gone, and not reserved"
        elif now != value.name:
            yield f"{name}: {value.number} was {value.name}, and is now {now}"


def reused_numbers(old: _Set, new: _Set) -> list[str]:
    """Numbers that mean something else than they did, or may come to: they are not reserved."""
    found = []
    messages = dict(_messages(new))
    for name, message in _messages(old):
        if name in messages:
            found += _message_changes(name, message, messages[name])
    enums = dict(_enums(new))
    for name, enum in _enums(old):
        if name in enums:
            found += _enum_changes(name, enum, enums[name])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/update_descriptor")
    parser.add_argument(
        "--breaking",
        action="store_true",
        help="even if numbers change their meaning: nobody runs an older version",
    )
    arguments = parser.parse_args()
    if API.exists() and not arguments.breaking:
        changes = reused_numbers(from_text(API.read_text()), compile_set(PROTO))
        if changes:
            print("Not updated: older peers would misread the new messages.", file=sys.stderr)
            print("\n".join(changes), file=sys.stderr)
            print("Take new numbers and reserve the old; or --breaking.", file=sys.stderr)
            return 1
    API.write_text(as_text(PROTO))
    return 0


if __name__ == "__main__":
    sys.exit(main())
