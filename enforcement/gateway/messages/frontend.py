"""What clients send: each message decoded from a frame's body, and encoded whole.

`encode_<name>` takes the fields of the struct in their order and gives the message with kind and length, so that
encoding what was decoded gives the same bytes. Texts are strict: what cannot be read cannot be judged.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from enforcement.gateway.messages import reading
from enforcement.gateway.messages.kinds import FromClient
from enforcement.gateway.messages.reading import I32, U16, U32, Body, FrameError

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = 3 << 16 | 2
CANCEL_CODE = 80877102
SSL_CODE = 80877103
GSSENC_CODE = 80877104
SECRET_BYTES = (4, 256)
LONGEST_NAME = 63

What = Literal["S", "P"]
"""A prepared statement, or a portal."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """Base of every decoded message."""


class SSLRequest(Message, frozen=True):
    pass


class GSSENCRequest(Message, frozen=True):
    pass


class Startup(Message, frozen=True):
    """`version` is major << 16 | minor; the major one is 3. The parameters stand in the order they came in."""

    version: int
    parameters: dict[str, str]


class CancelRequest(Message, frozen=True):
    """The secret has four bytes in protocol 3.0, up to 256 in 3.2."""

    pid: int
    secret: bytes


class Query(Message, frozen=True):
    text: str


class Parse(Message, frozen=True):
    name: str
    text: str
    types: tuple[int, ...]


class Bind(Message, frozen=True):
    """`formats` and `result_formats` hold none (all text), one (for all) or one for each."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


class Describe(Message, frozen=True):
    what: What
    name: str


class Close(Message, frozen=True):
    what: What
    name: str


class Execute(Message, frozen=True):
    """`limit` is the greatest number of rows; 0 or less is all."""

    portal: str
    limit: int


class FunctionCall(Message, frozen=True):
    oid: int
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_format: int


class Password(Message, frozen=True):
    password: str


class SASLInitialResponse(Message, frozen=True):
    mechanism: str
    data: bytes | None


class SASLResponse(Message, frozen=True):
    data: bytes


class CopyData(Message, frozen=True):
    data: bytes


class CopyFail(Message, frozen=True):
    reason: str


Beginning = Startup | SSLRequest | GSSENCRequest | CancelRequest


def decode_beginning(body: bytes) -> Beginning:
    """A packet without a kind. FrameError for a major version other than 3 and for a parameter named twice."""
    reader = Body(body)
    code = reader.uint32()
    if code in (SSL_CODE, GSSENC_CODE):
        reader.end()
        return SSLRequest() if code == SSL_CODE else GSSENCRequest()
    if code == CANCEL_CODE:
        return _cancel(reader)
    if code >> 16 != 3:
        raise FrameError(f"Protocol {code >> 16}.{code & 0xFFFF} is not spoken here; use protocol 3.0 or 3.2.")
    parameters: dict[str, str] = {}
    while name := reader.text():
        if name in parameters:
            raise FrameError("A startup parameter comes twice.")
        parameters[name] = reader.text()
    reader.end()
    return Startup(code, parameters)


def _cancel(reader: Body) -> CancelRequest:
    pid, secret = reader.uint32(), reader.rest()
    if not SECRET_BYTES[0] <= len(secret) <= SECRET_BYTES[1]:
        raise FrameError("A cancel key has 4 to 256 bytes.")
    return CancelRequest(pid, secret)


def _beginning(code: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">II", 8 + len(body), code) + body


def encode_ssl_request() -> bytes:
    return _beginning(SSL_CODE)


def encode_gssenc_request() -> bytes:
    return _beginning(GSSENC_CODE)


def encode_cancel_request(pid: int, secret: bytes) -> bytes:
    return _beginning(CANCEL_CODE, U32.pack(pid), secret)


def encode_startup(version: int, parameters: dict[str, str]) -> bytes:
    """FrameError for a parameter without a name."""
    if "" in parameters:
        raise FrameError("A startup parameter has no name.")
    return _beginning(version, *(reading.text(part) for pair in parameters.items() for part in pair), b"\0")


def decode_query(body: bytes, encoding: str = "utf-8") -> Query:
    reader = Body(body, encoding)
    found = Query(reader.text())
    reader.end()
    return found


def encode_query(text: str, encoding: str = "utf-8") -> bytes:
    return reading.message(FromClient.QUERY, reading.text(text, encoding))


def decode_parse(body: bytes, encoding: str = "utf-8") -> Parse:
    reader = Body(body, encoding)
    found = Parse(_name(reader), reader.text(), reader.oids(reader.uint16()))
    reader.end()
    return found


def encode_parse(name: str, text: str, types: tuple[int, ...], encoding: str = "utf-8") -> bytes:
    oids = struct.pack(f">H{len(types)}I", len(types), *types)
    return reading.message(FromClient.PARSE, reading.text(name, encoding), reading.text(text, encoding), oids)


def decode_bind(body: bytes, encoding: str = "utf-8") -> Bind:
    """FrameError also when the number of formats fits neither none, one, nor the values."""
    reader = Body(body, encoding)
    found = Bind(_name(reader), _name(reader), reader.formats(), reader.values(), reader.formats())
    reader.end()
    if len(found.formats) not in (0, 1, len(found.values)):
        raise FrameError("A Bind message has another number of formats than of values.")
    return found


def encode_bind(
    portal: str,
    statement: str,
    formats: tuple[int, ...],
    values: tuple[bytes | None, ...],
    result_formats: tuple[int, ...],
    encoding: str = "utf-8",
) -> bytes:
    names = reading.text(portal, encoding) + reading.text(statement, encoding)
    kind = FromClient.BIND
    return reading.message(
        kind, names, reading.formats(formats), reading.values(values), reading.formats(result_formats)
    )


def decode_describe(body: bytes, encoding: str = "utf-8") -> Describe:
    return Describe(*_named(body, encoding))


def encode_describe(what: What, name: str, encoding: str = "utf-8") -> bytes:
    return reading.message(FromClient.DESCRIBE, what.encode(), reading.text(name, encoding))


def decode_close(body: bytes, encoding: str = "utf-8") -> Close:
    return Close(*_named(body, encoding))


def encode_close(what: What, name: str, encoding: str = "utf-8") -> bytes:
    return reading.message(FromClient.CLOSE, what.encode(), reading.text(name, encoding))


def _name(reader: Body) -> str:
    """The name of a statement or portal. PostgreSQL cuts a longer one, so that two names would mean one thing there."""
    name = reader.text()
    if len(name.encode()) > LONGEST_NAME:
        raise FrameError(
            f"The name of a statement or portal is longer than {LONGEST_NAME} bytes. Give it a shorter one."
        )
    return name


def _named(body: bytes, encoding: str) -> tuple[What, str]:
    reader = Body(body, encoding)
    kind = reader.byte()
    if kind not in b"SP":
        raise FrameError("Describe and Close name a statement (S) or a portal (P).")
    name = _name(reader)
    reader.end()
    return ("S" if kind == ord("S") else "P"), name


def decode_execute(body: bytes, encoding: str = "utf-8") -> Execute:
    reader = Body(body, encoding)
    found = Execute(_name(reader), reader.int32())
    reader.end()
    return found


def encode_execute(portal: str, limit: int, encoding: str = "utf-8") -> bytes:
    return reading.message(FromClient.EXECUTE, reading.text(portal, encoding), I32.pack(limit))


def decode_function_call(body: bytes) -> FunctionCall:
    reader = Body(body)
    found = FunctionCall(reader.uint32(), reader.formats(), reader.values(), reader.uint16())
    reader.end()
    if len(found.formats) not in (0, 1, len(found.values)) or found.result_format > 1:
        raise FrameError("A FunctionCall message has formats that do not fit.")
    return found


def encode_function_call(
    oid: int, formats: tuple[int, ...], values: tuple[bytes | None, ...], result_format: int
) -> bytes:
    parts = (U32.pack(oid), reading.formats(formats), reading.values(values), U16.pack(result_format))
    return reading.message(FromClient.FUNCTION_CALL, *parts)


def decode_password(body: bytes) -> Password:
    reader = Body(body)
    found = Password(reader.text())
    reader.end()
    return found


def encode_password(password: str) -> bytes:
    return reading.message(FromClient.PASSWORD, reading.text(password))


def decode_sasl_initial_response(body: bytes) -> SASLInitialResponse:
    reader = Body(body)
    found = SASLInitialResponse(reader.text(), reader.value())
    reader.end()
    return found


def encode_sasl_initial_response(mechanism: str, data: bytes | None) -> bytes:
    told = I32.pack(-1) if data is None else I32.pack(len(data)) + data
    return reading.message(FromClient.PASSWORD, reading.text(mechanism), told)


def decode_sasl_response(body: bytes) -> SASLResponse:
    return SASLResponse(body)


def encode_sasl_response(data: bytes) -> bytes:
    return reading.message(FromClient.PASSWORD, data)


def decode_copy_data(body: bytes) -> CopyData:
    return CopyData(body)


def encode_copy_data(data: bytes) -> bytes:
    """The same from client and server."""
    return reading.message(FromClient.COPY_DATA, data)


def decode_copy_fail(body: bytes, encoding: str = "utf-8") -> CopyFail:
    reader = Body(body, encoding)
    found = CopyFail(reader.text())
    reader.end()
    return found


def encode_copy_fail(reason: str, encoding: str = "utf-8") -> bytes:
    return reading.message(FromClient.COPY_FAIL, reading.text(reason, encoding))


def decode_empty(body: bytes) -> None:
    """Sync, Flush, Terminate, CopyDone and the server's messages without content. FrameError when there is any."""
    Body(body).end()


def encode_sync() -> bytes:
    return reading.message(FromClient.SYNC)


def encode_flush() -> bytes:
    return reading.message(FromClient.FLUSH)


def encode_terminate() -> bytes:
    return reading.message(FromClient.TERMINATE)


def encode_copy_done() -> bytes:
    """The same from client and server."""
    return reading.message(FromClient.COPY_DONE)
