"""What no client sends: none of it ends the daemon, and none of it stays (I-12, F-30)."""

import contextlib
import functools
import os
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

import checks
import grpc
import pytest
from messages import message, number
from node import Node
from rank import ask_all, join_all, must_all, run_all
from raw import RawClient, connect

SEED = int(os.environ.get("TUTTI_SEED", "3"))
ROUNDS = 20


def packet(**kind: Any) -> bytes:
    data: bytes = message("SessionRequest")(request_id=1, **kind).SerializeToString()
    return data


def hello(**fields: Any) -> bytes:
    return packet(hello=message("Hello")(**{"protocol_version": 1, **fields}))


SessionCase = Callable[[RawClient, random.Random], None]

# --- On the session socket: each opens a connection, misbehaves, and hangs up ---


def random_bytes(raw: RawClient, chance: random.Random) -> None:
    raw.send_packet(chance.randbytes(chance.randint(1, 4096)))


def random_bytes_in_a_session(raw: RawClient, chance: random.Random) -> None:
    raw.hello()
    raw.send_packet(chance.randbytes(chance.randint(1, 4096)))


def half_a_hello(raw: RawClient, chance: random.Random) -> None:
    whole = hello(label="x" * 200)
    raw.send_packet(whole[: chance.randint(1, len(whole) - 1)])


def too_long(raw: RawClient, chance: random.Random) -> None:
    raw.send_packet(hello(label="x" * chance.randint(4096, 100_000)))


def empty(raw: RawClient, _: random.Random) -> None:
    raw.send_packet(b"")


def two_hellos(raw: RawClient, _: random.Random) -> None:
    raw.hello()
    raw.send_packet(hello())


def no_hello(raw: RawClient, _: random.Random) -> None:
    raw.send_packet(packet(create_arena=message("CreateArena")(size_bytes=1 << 20)))


def future_protocol(raw: RawClient, _: random.Random) -> None:
    raw.send_packet(hello(protocol_version=4_000_000_000))


def unknown_request(raw: RawClient, _: random.Random) -> None:
    raw.hello()
    raw.send_packet(b"\x08\x01\xfa\x07\x00")  # request_id, and field 127


def descriptors(raw: RawClient, chance: random.Random) -> None:
    with open("/dev/null", "rb") as file:
        raw.send_packet(hello(), [file.fileno()] * chance.choice([1, 2, 16, 64, 250]))


def descriptors_in_a_session(raw: RawClient, chance: random.Random) -> None:
    raw.hello()
    with open("/dev/null", "rb") as file:
        fds = [file.fileno()] * chance.choice([1, 2, 16, 64, 250])
        raw.send_packet(packet(release_arena=message("ReleaseArena")(arena=1)), fds)


def names_too_long(raw: RawClient, _: random.Random) -> None:
    raw.send_packet(hello(namespace="n" * 300))


def impossible_arenas(raw: RawClient, _: random.Random) -> None:
    raw.hello()
    for size in (0, 1, 4095, 1 << 62, (1 << 64) - 4096):
        reply, fds = raw.request(create_arena=message("CreateArena")(size_bytes=size))
        assert reply.HasField("failure") and not fds, (size, reply)
    for name in ("arena_mapped", "release_arena"):
        reply, _fds = raw.request(**{name: {"arena": 12345}})
        assert reply.HasField("failure"), reply


def arena_without_memory(raw: RawClient, _: random.Random) -> None:
    """Says that it has allocated, and has not."""
    raw.hello()
    arena, fd = raw.offer_arena(1 << 20)
    os.close(fd)
    reply, _fds = raw.request(arena_mapped=message("ArenaMapped")(arena=arena))
    assert reply.HasField("failure"), reply


def arena_cut_short(raw: RawClient, _: random.Random) -> None:
    """Truncates the memory that it was given, before the daemon maps it."""
    raw.hello()
    arena, fd = raw.offer_arena(1 << 20)
    os.posix_fallocate(fd, 0, 1 << 20)
    with contextlib.suppress(PermissionError):  # sealed already: as good
        os.ftruncate(fd, 4096)
    os.close(fd)
    raw.request(arena_mapped=message("ArenaMapped")(arena=arena))


def reads_nothing(raw: RawClient, _: random.Random) -> None:
    """Asks a thousand times without reading an answer."""
    raw.hello()
    raw.socket.setblocking(False)
    try:
        for _number in range(1000):
            raw.send_packet(packet(release_arena=message("ReleaseArena")(arena=1)))
    except (BlockingIOError, ConnectionResetError, BrokenPipeError):
        pass


SESSION_CASES = (
    random_bytes,
    random_bytes_in_a_session,
    half_a_hello,
    too_long,
    empty,
    two_hellos,
    no_hello,
    future_protocol,
    unknown_request,
    descriptors,
    descriptors_in_a_session,
    names_too_long,
    impossible_arenas,
    arena_without_memory,
    arena_cut_short,
    reads_nothing,
)


# --- On the sockets that speak HTTP/2 ---

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def streams(chance: random.Random) -> list[bytes]:
    return [
        b"",
        chance.randbytes(chance.randint(1, 5000)),
        PREFACE[: chance.randint(1, len(PREFACE) - 1)],
        PREFACE,
        PREFACE + chance.randbytes(500),
        PREFACE + http2_frame(4, 0, 0, b"") + http2_frame(1, 4, 1, chance.randbytes(100)),
        PREFACE + http2_frame(4, 0, 0, b"") + http2_frame(0, 0, 1, chance.randbytes(100)),
        PREFACE + http2_frame(4, 0, 0, chance.randbytes(5)),
        PREFACE + http2_frame(4, 0, 0, b"")[: chance.randint(1, 8)],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]


# --- The tests: before, after and all the while a decent group works ---


class Decent:
    """A group that goes on (I-10)."""

    def __init__(self, node: Node) -> None:
        self.ranks = node.new_ranks(2, "decent")
        join_all(self.ranks, "dp")
        must_all(self.ranks, "tensor t float32 100000")

    def works(self) -> None:
        must_all(self.ranks, "fill t 1")
        assert all(verdict.ok for verdict in run_all(self.ranks, "allreduce dp t sum"))
        checks.check_results(ask_all(self.ranks, ["check t 2"] * 2))


def check_harmless(node: Node, plays: Sequence[Callable[[], None]]) -> None:
    """Plays all as a warm-up and for the baseline, then again and again, and compares."""
    decent = Decent(node)
    for play in plays:
        play()
    decent.works()
    before = checks.settled_usage(node.pid, node.admin)
    for _ in range(ROUNDS):
        for play in plays:
            play()
        decent.works()
    node.check_alive()
    checks.check_no_leak(node.pid, node.admin, before)


def test_the_session_socket(node: Node) -> None:
    chance = random.Random(SEED)

    def play(case: SessionCase) -> None:
        with RawClient(node.socket_dir) as raw:
            try:
                case(raw, chance)
                # What was sent is in its queue: the daemon reads all of it before it hangs up.
                raw.hang_up()
            except (ConnectionResetError, BrokenPipeError):
                pass  # the daemon has had enough of it
            except PermissionError:  # Linux from 6.16 on passes no descriptors to the daemon
                assert case in (descriptors, descriptors_in_a_session)
        assert node.daemon.is_alive(), f"{case.__name__} has ended the daemon"

    check_harmless(node, [functools.partial(play, case) for case in SESSION_CASES])


@pytest.mark.parametrize("name", ["grpc.sock", "admin.sock"])
def test_the_grpc_sockets(node: Node, name: str) -> None:
    chance = random.Random(SEED)

    def play() -> None:
        for data in streams(chance):
            with connect(node.socket_dir, name) as connection:
                try:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                except (ConnectionResetError, BrokenPipeError):
                    pass

    check_harmless(node, [play])


# --- Good gRPC that breaks the lane's protocol ---


def work(membership: int, number_: int) -> dict[str, Any]:
    kind = number("CollectiveKind", "BARRIER")
    return {"number": number_, "membership": membership, "kind": kind}


def a_gap(raw: RawClient, seat: int) -> None:
    raw.attach()
    raw.submit(**work(seat, 5))


def work_zero(raw: RawClient, seat: int) -> None:
    raw.attach()
    raw.submit(**work(seat, 0))


@pytest.mark.parametrize("case", [a_gap, work_zero], ids=["a_gap", "work_zero"])
def test_a_broken_lane_ends_its_session_only(
    node: Node, case: Callable[[RawClient, int], None]
) -> None:
    def play() -> None:
        with RawClient(node.socket_dir) as raw:
            raw.hello()
            seat = raw.join("alone", rank=0, world_size=1).result().membership
            case(raw, seat)
            with pytest.raises(grpc.RpcError):
                raw.completion()
            raw.wait_hang_up()

    check_harmless(node, [play])


def test_calls_need_the_token_of_a_living_session(node: Node) -> None:
    with RawClient(node.socket_dir) as raw:
        raw.hello()
        right = raw.token
        for token in (b"", b"x" * 32, right[:-1], right + b"x", bytes(32)):
            raw.token = token
            with pytest.raises(grpc.RpcError) as refused:
                raw.join("alone", rank=0, world_size=1).result()
            assert refused.value.code() in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.NOT_FOUND,
            )
        raw.token = right
        assert raw.join("alone", rank=0, world_size=1).result().membership


def test_a_seat_of_another_session_is_not_ours(node: Node) -> None:
    with RawClient(node.socket_dir) as owner, RawClient(node.socket_dir) as thief:
        owner.hello()
        thief.hello()
        seat = owner.join("alone", rank=0, world_size=1).result().membership
        thief.attach()
        thief.submit(**work(seat, 1))
        assert thief.completion().HasField("failure")
        owner.attach()
        owner.submit(**work(seat, 1))
        assert not owner.completion().HasField("failure")
