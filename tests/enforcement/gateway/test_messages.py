"""Messages: the same frames however the bytes are cut, every length checked, and encoding gives back what was decoded."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from enforcement.gateway import messages
from enforcement.gateway.messages import Field, Frame, FrameError, FromClient, FromServer, Reader, Run, Sender
from enforcement.gateway.messages.kinds import STARTUP_LIMIT_BYTES

Pair = tuple[Callable[[bytes], Any], Callable[..., bytes], some.SearchStrategy[tuple[Any, ...]]]
FEW = settings(max_examples=20, deadline=None)

TEXT = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
BYTES = some.binary(max_size=20)
U32 = some.integers(0, 2**32 - 1)
I32 = some.integers(-(2**31), 2**31 - 1)
I16 = some.integers(-(2**15), 2**15 - 1)
VALUES = some.lists(some.none() | BYTES, max_size=5).map(tuple)
FORMATS = some.lists(some.integers(0, 1), max_size=5).map(tuple)
OIDS = some.lists(U32, max_size=5).map(tuple)
WHAT = some.sampled_from(["S", "P"])
LETTERS = some.dictionaries(some.sampled_from("SVCMDHPW"), TEXT, max_size=5)
FIELDS = some.lists(some.builds(Field, TEXT, U32, I16, U32, I16, I32, some.integers(0, 1)), max_size=4).map(tuple)
BOUND = some.one_of(
    some.tuples(TEXT, TEXT, some.just(()), VALUES, FORMATS),
    some.tuples(TEXT, TEXT, some.sampled_from([(0,), (1,)]), VALUES, FORMATS),
)
CALLED = some.tuples(U32, some.sampled_from([(), (0,), (1,)]), VALUES, some.integers(0, 1))
SASL = some.tuples(some.just(messages.SASL), some.lists(TEXT.filter(bool), max_size=3).map(tuple))
OTHER = some.tuples(some.sampled_from([messages.SASL_CONTINUE, messages.SASL_FINAL, 7, 8]), some.just(()), BYTES)
COPY = some.tuples(some.integers(0, 1), FORMATS)

CLIENT: dict[str, Pair] = {
    "query": (messages.decode_query, messages.encode_query, some.tuples(TEXT)),
    "parse": (messages.decode_parse, messages.encode_parse, some.tuples(TEXT, TEXT, OIDS)),
    "bind": (messages.decode_bind, messages.encode_bind, BOUND),
    "describe": (messages.decode_describe, messages.encode_describe, some.tuples(WHAT, TEXT)),
    "close": (messages.decode_close, messages.encode_close, some.tuples(WHAT, TEXT)),
    "execute": (messages.decode_execute, messages.encode_execute, some.tuples(TEXT, I32)),
    "function call": (messages.decode_function_call, messages.encode_function_call, CALLED),
    "password": (messages.decode_password, messages.encode_password, some.tuples(TEXT)),
    "sasl initial": (messages.decode_sasl_initial_response, messages.encode_sasl_initial_response,
                     some.tuples(TEXT, some.none() | BYTES)),
    "sasl": (messages.decode_sasl_response, messages.encode_sasl_response, some.tuples(BYTES)),
    "copy data": (messages.decode_copy_data, messages.encode_copy_data, some.tuples(BYTES)),
    "copy fail": (messages.decode_copy_fail, messages.encode_copy_fail, some.tuples(TEXT)),
}  # fmt: skip
SERVER: dict[str, Pair] = {
    "row description": (messages.decode_row_description, messages.encode_row_description, some.tuples(FIELDS)),
    "data row": (messages.decode_data_row, messages.encode_data_row, some.tuples(VALUES)),
    "command complete": (messages.decode_command_complete, messages.encode_command_complete, some.tuples(TEXT)),
    "error": (messages.decode_error_response, messages.encode_error_response, some.tuples(LETTERS)),
    "notice": (messages.decode_notice_response, messages.encode_notice_response, some.tuples(LETTERS)),
    "ready": (messages.decode_ready_for_query, messages.encode_ready_for_query, some.tuples(some.sampled_from("ITE"))),
    "parameter status": (messages.decode_parameter_status, messages.encode_parameter_status, some.tuples(TEXT, TEXT)),
    "key data": (messages.decode_backend_key_data, messages.encode_backend_key_data,
                 some.tuples(U32, some.binary(min_size=4, max_size=256))),
    "copy in": (messages.decode_copy_response, messages.encode_copy_in_response, COPY),
    "copy out": (messages.decode_copy_response, messages.encode_copy_out_response, COPY),
    "copy both": (messages.decode_copy_response, messages.encode_copy_both_response, COPY),
    "parameters": (messages.decode_parameter_description, messages.encode_parameter_description, some.tuples(OIDS)),
    "notification": (messages.decode_notification_response, messages.encode_notification_response,
                     some.tuples(U32, TEXT, TEXT)),
    "negotiate": (messages.decode_negotiate_protocol_version, messages.encode_negotiate_protocol_version,
                  some.tuples(U32, some.lists(TEXT, max_size=3).map(tuple))),
    "authentication": (messages.decode_authentication, messages.encode_authentication, SASL | OTHER),
    "function result": (messages.decode_function_call_response, messages.encode_function_call_response,
                        some.tuples(some.none() | BYTES)),
}  # fmt: skip
ALL = {**{("client", name): pair for name, pair in CLIENT.items()}, **{("server", n): p for n, p in SERVER.items()}}
OPEN_ENDED = {("client", "sasl"), ("client", "copy data"), ("server", "authentication"), ("server", "key data")}
"""Their last part is whatever is there."""
EMPTY = {
    "client": (messages.encode_sync, messages.encode_flush, messages.encode_terminate, messages.encode_copy_done),
    "server": (
        messages.encode_parse_complete, messages.encode_bind_complete, messages.encode_close_complete,
        messages.encode_no_data, messages.encode_empty_query_response, messages.encode_portal_suspended,
    ),
}  # fmt: skip
FIRST = [
    messages.encode_ssl_request(),
    messages.encode_gssenc_request(),
    messages.encode_startup(messages.PROTOCOL_3_2, {"user": "dana", "database": "shop", "application_name": ""}),
]


def told(frame: Frame) -> tuple[int, bytes, bytes]:
    return frame.kind, frame.body, frame.raw


def cut(stream: bytes, places: list[int], reader: Reader) -> list[tuple[int, bytes, bytes]]:
    ends = [0, *sorted(places), len(stream)]
    return [told(f) for start, end in itertools.pairwise(ends) for f in reader.feed(stream[start:end])]


@pytest.mark.parametrize(("sender", "name"), sorted(ALL))
def test_encoding_what_was_decoded_gives_the_same_bytes(sender: Sender, name: str) -> None:
    decode, encode, fields = ALL[sender, name]

    @FEW
    @given(fields)
    def holds(given_fields: tuple[Any, ...]) -> None:
        raw = encode(*given_fields)
        (frame,) = Reader(sender=sender).feed(raw)
        assert frame.raw == raw
        decoded = decode(frame.body)
        assert encode(*msgspec.structs.astuple(decoded)) == raw
        assert msgspec.structs.astuple(decoded)[: len(given_fields)] == given_fields

    holds()


@pytest.mark.parametrize(("sender", "name"), sorted(ALL.keys() - OPEN_ENDED))
def test_a_body_with_a_byte_too_many_or_too_few_is_refused(sender: Sender, name: str) -> None:
    decode, encode, fields = ALL[sender, name]

    @FEW
    @given(fields, some.binary(min_size=1, max_size=3))
    def holds(given_fields: tuple[Any, ...], more: bytes) -> None:
        body = encode(*given_fields)[5:]
        for wrong in (body + more, body[:-1]):
            with pytest.raises(FrameError):
                decode(wrong)

    holds()


@pytest.mark.parametrize("sender", ["client", "server"])
def test_the_frames_are_the_same_at_every_byte_where_the_stream_is_cut(sender: Sender) -> None:
    @FEW
    @given(some.data())
    def holds(data: some.DataObject) -> None:
        names = sorted(name for side, name in ALL if side == sender)
        raws = [
            ALL[sender, name][1](*data.draw(ALL[sender, name][2]))
            for name in data.draw(some.lists(some.sampled_from(names), max_size=5))
        ]
        raws += [encode() for encode in EMPTY[sender]]
        first = (
            data.draw(some.lists(some.sampled_from(FIRST[:2]), max_size=1)) + FIRST[2:] if sender == "client" else []
        )
        stream = b"".join(first + raws)
        whole = [told(f) for f in Reader(sender=sender, startup=bool(first)).feed(stream)]
        assert [raw for _, _, raw in whole] == first + raws
        for place in range(len(stream)):
            assert cut(stream, [place], Reader(sender=sender, startup=bool(first))) == whole
        every = Reader(sender=sender, startup=bool(first))
        assert cut(stream, list(range(len(stream))), every) == whole
        assert every.unread() == b""

    holds()


@given(some.lists(some.integers(0, 3), max_size=40), some.lists(some.integers(0, 2000), max_size=6))
def test_runs_hold_the_same_frames_as_reading_one_by_one(kinds: list[int], places: list[int]) -> None:
    choices = [
        messages.encode_data_row([b"4711", None]), messages.encode_data_row([]),
        messages.encode_notice_response({"M": "n"}), messages.encode_command_complete("SELECT 1"),
    ]  # fmt: skip
    stream = b"".join(choices[kind] for kind in kinds)
    whole = [told(f) for f in Reader(sender="server").feed(stream)]
    reader, found = Reader(sender="server"), []
    ends = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    for start, end in itertools.pairwise(ends):
        before = None
        for one in reader.feed_runs(memoryview(stream)[start:end], b"Dd"):
            if isinstance(one, Run):
                frames = list(one.frames())
                assert (one.count, one.raw) == (len(frames), b"".join(f.raw for f in frames))
                assert not isinstance(before, Run), "two runs behind each other are one"
                found += frames
            else:
                assert one.kind != FromServer.DATA_ROW
                found.append(one)
            before = one
    assert [told(f) for f in found] == whole


def test_a_buffer_that_is_filled_again_does_not_change_frames_already_read() -> None:
    buffer = bytearray(messages.encode_query("select 1"))
    (frame,) = Reader(sender="client").feed(memoryview(buffer))
    buffer[:] = b"\xff" * len(buffer)
    assert messages.decode_query(frame.body).text == "select 1"


@given(some.binary(max_size=300), some.sampled_from(["client", "server"]), some.booleans(), some.integers(1, 40))
def test_random_bytes_raise_nothing_but_frame_errors(data: bytes, sender: Sender, startup: bool, step: int) -> None:
    reader = Reader(sender=sender, startup=startup)
    with contextlib.suppress(FrameError):
        for start in range(0, len(data), step):
            for frame in reader.feed(data[start : start + step]):
                decode_somehow(frame, sender)


def decode_somehow(frame: Frame, sender: Sender) -> None:
    if not frame.kind:
        messages.decode_beginning(frame.body)
    for decode, _, _ in (CLIENT if sender == "client" else SERVER).values():
        with contextlib.suppress(FrameError):
            decode(frame.body)


@pytest.mark.parametrize(("sender", "name"), sorted(ALL))
def test_any_body_is_decoded_faithfully_or_refused(sender: Sender, name: str) -> None:
    decode, encode, _ = ALL[sender, name]
    numbers = some.sampled_from(
        [b"\0\0", b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\1", b"S", b"a\0"]
    )

    @FEW
    @given(some.lists(numbers | some.binary(max_size=6), max_size=8).map(b"".join))
    def holds(body: bytes) -> None:
        try:
            decoded = decode(body)
        except FrameError:
            return
        assert encode(*msgspec.structs.astuple(decoded))[5:] == body

    holds()


@given(some.binary(max_size=120))
def test_any_first_packet_is_decoded_faithfully_or_refused(rest: bytes) -> None:
    codes = (
        messages.PROTOCOL_3_0,
        messages.PROTOCOL_3_2,
        messages.CANCEL_CODE,
        messages.SSL_CODE,
        messages.GSSENC_CODE,
    )
    for code in codes:
        body = struct.pack(">I", code) + rest
        try:
            beginning = messages.decode_beginning(body)
        except FrameError:
            continue
        match beginning:
            case messages.Startup():
                raw = messages.encode_startup(beginning.version, beginning.parameters)
            case messages.CancelRequest():
                raw = messages.encode_cancel_request(beginning.pid, beginning.secret)
            case messages.SSLRequest():
                raw = messages.encode_ssl_request()
            case messages.GSSENCRequest():
                raw = messages.encode_gssenc_request()
        assert raw[4:] == body


@pytest.mark.parametrize("length", [0, 3, (64 << 20) + 1, 2**31, 2**32 - 1])
def test_a_length_that_cannot_be_is_refused_as_soon_as_it_is_there(length: int) -> None:
    with pytest.raises(FrameError, match="bytes"):
        Reader(sender="client").feed(b"Q" + struct.pack(">I", length))


@pytest.mark.parametrize(
    ("sender", "kind"), [("client", b"T"), ("client", b"Z"), ("server", b"Q"), ("server", b"\x16")]
)
def test_a_kind_that_the_sender_does_not_have_is_refused(sender: Sender, kind: bytes) -> None:
    with pytest.raises(FrameError, match="not part of the protocol"):
        Reader(sender=sender).feed(kind + struct.pack(">I", 4))


@pytest.mark.parametrize("kind", b"SHXcDECfp")
def test_small_messages_have_a_small_limit(kind: int) -> None:
    with pytest.raises(FrameError, match="are allowed"):
        Reader(sender="client").feed(struct.pack(">BI", kind, (64 << 10) + 1))


def test_a_limit_that_was_set_holds_for_every_kind() -> None:
    reader = Reader(sender="client", limit_bytes=1000)
    assert len(reader.feed(messages.encode_query("x" * 900))) == 1
    with pytest.raises(FrameError, match="4 to 1000"):
        reader.feed(messages.encode_query("x" * 1000)[:5])


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\0\0\0\7", b"\0\0\0\0"]
)
def test_what_is_no_startup_packet_is_refused_at_its_first_four_bytes(first: bytes) -> None:
    with pytest.raises(FrameError, match="first packet"):
        Reader(sender="client", startup=True).feed(first[:4])


def test_a_startup_packet_over_the_limit_is_refused() -> None:
    with pytest.raises(FrameError, match="first packet"):
        Reader(sender="client", startup=True).feed(struct.pack(">I", STARTUP_LIMIT_BYTES + 1))


def test_a_declared_length_takes_no_memory_before_its_bytes_come() -> None:
    readers = [Reader(sender="server") for _ in range(50)]
    tracemalloc.start()
    for reader in readers:
        assert reader.feed(struct.pack(">BI", FromServer.DATA_ROW, 64 << 20) + b"\0\5") == []
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 1 << 20


def test_counts_that_the_body_cannot_hold_take_no_memory() -> None:
    bodies = {
        messages.decode_parse: b"\0\0\xff\xff", messages.decode_bind: b"\0\0\xff\xff",
        messages.decode_data_row: b"\xff\xff", messages.decode_row_description: b"\xff\xff",
        messages.decode_parameter_description: b"\xff\xff", messages.decode_copy_response: b"\0\xff\xff",
        messages.decode_negotiate_protocol_version: b"\0\3\0\0\xff\xff\xff\xff",
    }  # fmt: skip
    tracemalloc.start()
    for decode, body in bodies.items():
        with pytest.raises(FrameError):
            decode(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_large_message_that_comes_in_many_pieces_is_put_together_once() -> None:
    content = random.Random(4).randbytes(8 << 20)
    stream = messages.encode_copy_data(content) + messages.encode_copy_done()
    reader, found = Reader(sender="server"), []
    for start in range(0, len(stream), 1 << 16):
        found += reader.feed(stream[start : start + (1 << 16)])
    assert [frame.kind for frame in found] == [FromServer.COPY_DATA, FromServer.COPY_DONE]
    assert found[0].body == content


def test_text_of_a_client_must_be_valid_and_end_once() -> None:
    for body in (b"select '\xff'\0", b"select 1", b"select 1\0;drop table x\0", b""):
        with pytest.raises(FrameError):
            messages.decode_query(body)
    assert messages.decode_query("select 'é'\0".encode("latin-1"), "latin-1").text == "select 'é'"
    with pytest.raises(FrameError, match="zero byte"):
        messages.encode_query("select\0")
    with pytest.raises(FrameError, match="latin-1"):
        messages.encode_query("select '\u20ac'", "latin-1")


def test_names_of_a_server_that_are_not_valid_come_out_as_they_went_in() -> None:
    raw = messages.encode_error_response({"M": "x"}).replace(b"Mx", b"M\xe9")
    (frame,) = Reader(sender="server").feed(raw)
    assert messages.encode_error_response(messages.decode_error_response(frame.body).fields) == raw


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (messages.decode_describe, b"X\0"),
        (messages.decode_bind, b"\0\0\0\1\0\2\0\0\0\0"),
        (messages.decode_bind, b"\0\0" + struct.pack(">HhhHiH", 2, 0, 1, 1, -1, 0)),
        (messages.decode_bind, b"\0\0" + struct.pack(">HHiH", 0, 1, -2, 0)),
        (messages.decode_data_row, struct.pack(">Hi", 1, -2)),
        (messages.decode_row_description, struct.pack(">H", 1) + b"a\0" + struct.pack(">IhIhih", 1, 1, 25, -1, -1, 2)),
        (messages.decode_ready_for_query, b"X"),
        (messages.decode_error_response, b"Ma\0Mb\0\0"),
        (messages.decode_copy_response, b"\2\0\0"),
        (messages.decode_authentication, struct.pack(">I", 0) + b"x"),
        (messages.decode_authentication, struct.pack(">I", 5) + b"abc"),
        (messages.decode_backend_key_data, struct.pack(">I", 7) + b"abc"),
        (messages.decode_beginning, struct.pack(">I", 2 << 16) + b"\0"),
        (messages.decode_beginning, struct.pack(">I", 3 << 16) + b"user\0a\0user\0b\0\0"),
        (messages.decode_beginning, struct.pack(">I", messages.CANCEL_CODE) + b"\0\0\0\1abc"),
        (messages.decode_empty, b"\0"),
    ],
)
def test_what_the_protocol_does_not_have_is_refused(decode: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(FrameError):
        decode(body)


def test_our_own_errors_carry_what_clients_show() -> None:
    (frame,) = Reader(sender="server").feed(messages.error("42501", "No\0 table is dropped.", hint="Ask for it."))
    assert messages.decode_error_response(frame.body).fields == {
        "S": "ERROR", "V": "ERROR", "C": "42501", "M": "No table is dropped.", "H": "Ask for it.",
    }  # fmt: skip


def test_a_message_over_the_limit_is_not_made() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        messages.encode_copy_data(bytes(messages.LIMIT_BYTES))
    assert FromClient.COPY_DATA == FromServer.COPY_DATA
