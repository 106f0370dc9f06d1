"""The wire is what proto/api.txtpb says, and keeps its rules; each rule is shown a violation."""

import difflib

import pytest

import descriptor


def test_the_checked_in_text_is_up_to_date():
    old = descriptor.API.read_text().splitlines()
    new = descriptor.as_text(descriptor.PROTO).splitlines()
    diff = "\n".join(difflib.unified_diff(old, new, "proto/api.txtpb", "proto/**/*.proto", n=8))
    assert not diff, f"\n{diff}\n\nIf this is meant, update it with: ./tests/update_descriptor"


def test_everything_has_a_comment():
    found = descriptor.without_comment(descriptor.compile_set(descriptor.PROTO, source_info=True))
    assert not found, "no comment:\n" + "\n".join(found)


def test_zero_is_unspecified():
    found = descriptor.without_unspecified(descriptor.compile_set(descriptor.PROTO))
    assert not found, "the value 0 of an enum is <ENUM>_UNSPECIFIED:\n" + "\n".join(found)


def test_no_number_is_reused():
    old = descriptor.from_text(descriptor.API.read_text())
    found = descriptor.reused_numbers(old, descriptor.compile_set(descriptor.PROTO))
    assert not found, "\n" + "\n".join(found)


_PROTO = """\
syntax = "proto3";
package p;
// A message.
message M {
  // A field.
  string a = 1;
  int32 b = 2;  // Behind it.
  // A map.
  map<string, int32> m = 3;
  // Inner.
  message Inner {
    // A field.
    E e = 1;
  }
}
// An enum.
enum E {
  // Zero.
  E_UNSPECIFIED = 0;
  // One.
  E_ONE = 1;
}
// A service.
service S {
  // A method.
  rpc Call(M) returns (M);
}
"""


@pytest.fixture
def compiled(tmp_path):
    """A function that compiles _PROTO with one change."""

    def compile_with(old="", new=""):
        assert old in _PROTO
        (tmp_path / "p.proto").write_text(_PROTO.replace(old, new, 1) if old else _PROTO)
        return descriptor.compile_set(tmp_path, source_info=True)

    return compile_with


def test_accepts_a_good_file(compiled):
    good = compiled()
    assert not descriptor.without_comment(good)
    assert not descriptor.without_unspecified(good)
    assert not descriptor.reused_numbers(good, good)


@pytest.mark.parametrize(
    "comment, name",
    [
        ("// A message.", "p.M"),
        ("  // A field.", "p.M.a"),
        ("  // Behind it.", "p.M.b"),
        ("  // A map.", "p.M.m"),
        ("  // Inner.", "p.M.Inner"),
        ("    // A field.", "p.M.Inner.e"),
        ("// An enum.", "p.E"),
        ("  // One.", "p.E.E_ONE"),
        ("// A service.", "p.S"),
        ("  // A method.", "p.S.Call"),
    ],
)
def test_finds_a_missing_comment(compiled, comment, name):
    assert descriptor.without_comment(compiled(f"{comment}\n", "\n")) == [name]


def test_finds_an_enum_whose_zero_says_something(compiled):
    assert descriptor.without_unspecified(compiled("E_UNSPECIFIED", "E_NONE")) == ["p.E"]


@pytest.mark.parametrize(
    "old, new, found",
    [
        # A name of its own for each: renamed, retyped, repeated, removed, renamed value, removed.
        ("string a = 1", "string c = 1", 1),
        ("int32 b = 2", "int64 b = 2", 1),
        ("string a = 1", "repeated string a = 1", 1),
        ("string a = 1;", "", 1),
        ("string a = 1;", "reserved 1;", 0),
        ("int32 b = 2;", "int32 b = 2; int32 c = 4;", 0),
        ("E_ONE = 1", "E_UNO = 1", 1),
        ("E_ONE = 1;", "", 1),
        ("E_ONE = 1;", "reserved 1;", 0),
    ],
)
def test_finds_a_reused_number(compiled, old, new, found):
    before = compiled()
    assert len(descriptor.reused_numbers(before, compiled(old, new))) == found


def test_the_text_reads_back(tmp_path):
    (tmp_path / "p.proto").write_text(_PROTO)
    text = descriptor.as_text(tmp_path)
    assert [file.name for file in descriptor.from_text(text).file] == ["p.proto"]
    assert 'name: "E_UNSPECIFIED"' in text
