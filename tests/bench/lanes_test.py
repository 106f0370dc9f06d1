"""Who has which lane is the daemon's word, and its absence is no word."""

import json
import os
import time

import crew
import lanes
import machine
import pytest
from lanes import Lane, Lanes, LanesUnknown, describe, lanes_of, problem

_SESSIONS = {
    "sessions": [
        {"id": "1", "pid": 11, "lane": "ring"},
        {"id": "2", "pid": 12, "lane": "grpc", "no_ring": "no memory"},
        {"id": "3", "pid": 13, "lane": "none"},
    ]
}


@pytest.fixture
def tool(tmp_path):
    """Something that prints what it is given."""

    def make(text, status=0):
        path = tmp_path / "tutti"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
        path.chmod(0o755)
        return Lanes(str(path))

    return make


def test_finds_the_lane_of_each_process():
    found = lanes_of(_SESSIONS, [12, 11, 13, 99])
    assert found == [Lane("grpc", "no memory"), Lane("ring"), Lane("none"), Lane("none")]
    assert lanes_of({}, [11]) == [Lane("none")]


def test_all_must_have_the_lane_that_they_were_told_to_take():
    assert problem([Lane("ring"), Lane("ring")], "ring") == ""
    # Why it is not the ring does not matter to whoever wants none.
    assert problem([Lane("grpc", "TUTTI_LANE says so")], "grpc") == ""
    wrong = problem([Lane("ring"), Lane("grpc", "no memory")], "ring")
    assert wrong == "was told to take the lane ring, and has ring, grpc (no memory)"
    assert describe([Lane("ring")] * 4) == "ring"


def test_asks_the_daemon(tool):
    assert tool(json.dumps(_SESSIONS)).wait([11], "ring") == [Lane("ring")]


def test_waits_a_while_for_the_lane(tool, monkeypatch):
    monkeypatch.setattr(lanes, "_PATIENCE_S", 0.3)
    assert tool(json.dumps(_SESSIONS)).wait([12], "ring") == [Lane("grpc", "no memory")]


@pytest.mark.parametrize("text, status", [("no daemon", 0), ("{}", 1)])
def test_no_answer_is_no_lane(tool, text, status):
    with pytest.raises(LanesUnknown):
        tool(text, status).of([11])


def test_a_tool_that_is_not_there_is_no_lane(tmp_path):
    with pytest.raises(LanesUnknown):
        Lanes(str(tmp_path / "none")).of([11])


def test_reads_the_processor_time_of_a_process():
    before_ns = time.process_time_ns()
    found_ns = machine.cpu_ns(os.getpid())
    assert 0 < before_ns <= found_ns <= time.process_time_ns()


_BABBLER = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(b"babbler 0 says that it is one\\n")
for line in connection.makefile():
    if line.startswith("end"):
        break
    connection.sendall(b"ok\\n")
"""


def test_a_crew_that_has_ended_is_not_asked_again():
    with crew.Crew("babbler", [["/usr/bin/python3", "-c", _BABBLER]], 1) as babbler:
        assert babbler.ask("anything") == ["ok"]
        for _ in range(2):
            with pytest.raises(crew.CrewError, match="a process has ended"):
                babbler.ask("end")


def test_a_process_that_does_not_read_its_command_has_ended():
    program = "import socket, sys; c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]);"
    program += "c.sendall(b'x 0 says no more\\n'); c.recv(1, socket.MSG_PEEK)"
    with crew.Crew("x", [["/usr/bin/python3", "-c", program]], 1) as found:
        # The connection is reset then, not just closed.
        with pytest.raises(crew.CrewError, match="a process has ended"):
            found.ask("anything")


def test_processes_of_a_crew_get_its_environment():
    program = "import os, socket, sys; c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]);"
    program += "c.sendall(('x 0 ' + os.environ['TUTTI_LANE'] + '\\n').encode()); c.recv(1)"
    command = [["/usr/bin/python3", "-c", program]]
    with crew.Crew("x", command, 1, {"TUTTI_LANE": "ring"}) as found:
        assert found.description == "ring"
        assert len(found.pids) == 1
