"""What servers send: each message decoded from a frame's body, and encoded whole, as in `frontend`.

A server may hold texts that are not valid in the client's encoding (databases in SQL_ASCII): names and error texts
are read so that the same bytes come out again (`surrogateescape`). Whoever stores such a text cleans it first.
"""

from __future__ import annotations

import struct

from enforcement.gateway.messages import reading
from enforcement.gateway.messages.frontend import SECRET_BYTES, Message
from enforcement.gateway.messages.kinds import FromServer
from enforcement.gateway.messages.reading import I32, U16, U32, Body, FrameError

AUTHENTICATION_OK = 0
CLEARTEXT_PASSWORD = 3
MD5_PASSWORD = 5
SASL = 10
SASL_CONTINUE = 11
SASL_FINAL = 12
IN_TRANSACTION, IDLE, FAILED = "T", "I", "E"

_FIELD = struct.Struct(">IhIhih")
_LOSSLESS = "surrogateescape"


class Field(Message, frozen=True):
    """One result column. `table_oid` and `attribute` are 0 where it is no column of a relation; format 0 is text."""

    name: str
    table_oid: int
    attribute: int
    type_oid: int
    size: int
    modifier: int
    format: int


class RowDescription(Message, frozen=True):
    fields: tuple[Field, ...]


class DataRow(Message, frozen=True):
    values: tuple[bytes | None, ...]


class CommandComplete(Message, frozen=True):
    tag: str


class ErrorResponse(Message, frozen=True):
    """Fields by their letter: S severity, C SQLSTATE, M message, D detail, H hint …"""

    fields: dict[str, str]


class NoticeResponse(Message, frozen=True):
    fields: dict[str, str]


class ReadyForQuery(Message, frozen=True):
    """I idle, T in a transaction, E in a failed one."""

    status: str


class ParameterStatus(Message, frozen=True):
    name: str
    value: str


class BackendKeyData(Message, frozen=True):
    pid: int
    secret: bytes


class CopyResponse(Message, frozen=True):
    """CopyInResponse, CopyOutResponse and CopyBothResponse: the format of the whole and of each column."""

    format: int
    column_formats: tuple[int, ...]


class ParameterDescription(Message, frozen=True):
    types: tuple[int, ...]


class NotificationResponse(Message, frozen=True):
    pid: int
    channel: str
    payload: str


class NegotiateProtocolVersion(Message, frozen=True):
    """The newest minor version the server speaks (as it counts: the minor alone or major << 16 | minor)."""

    version: int
    options: tuple[str, ...]


class Authentication(Message, frozen=True):
    """`code` says what is asked. `mechanisms` with SASL; `data` is the salt, challenge or final message."""

    code: int
    mechanisms: tuple[str, ...] = ()
    data: bytes = b""


class FunctionCallResponse(Message, frozen=True):
    value: bytes | None


def decode_row_description(body: bytes, encoding: str = "utf-8") -> RowDescription:
    reader = Body(body, encoding, _LOSSLESS)
    fields = tuple(Field(reader.text(), *_FIELD.unpack(reader.take(_FIELD.size))) for _ in range(reader.uint16()))
    reader.end()
    if any(field.format not in (0, 1) for field in fields):
        raise FrameError("A format code is neither 0 (text) nor 1 (binary).")
    return RowDescription(fields)


def encode_row_description(fields: tuple[Field, ...], encoding: str = "utf-8") -> bytes:
    parts = [U16.pack(len(fields))]
    for f in fields:
        parts.append(reading.text(f.name, encoding, _LOSSLESS))
        parts.append(_FIELD.pack(f.table_oid, f.attribute, f.type_oid, f.size, f.modifier, f.format))
    return reading.message(FromServer.ROW_DESCRIPTION, *parts)


def decode_data_row(body: bytes) -> DataRow:
    return DataRow(tuple(row_values(body, 0, len(body))))


def row_values(data: bytes, at: int, stop: int) -> list[bytes | None]:
    """The values of the DataRow whose body is `data[at:stop]`: the way for streams, without a copy of the body."""
    found: list[bytes | None] = []
    unpack = I32.unpack_from
    if stop - at < 2:
        raise FrameError("A row is shorter than its count.")
    count = U16.unpack_from(data, at)[0]
    at += 2
    for _ in range(count):
        start = at + 4
        if start > stop:
            raise FrameError("A row is shorter than the counts inside it say.")
        length = unpack(data, at)[0]
        if length < 0:
            if length != -1:
                raise FrameError("A value's length is negative.")
            found.append(None)
            at = start
            continue
        at = start + length
        if at > stop:
            raise FrameError("A row is shorter than the lengths inside it say.")
        found.append(data[start:at])
    if at != stop:
        raise FrameError("A row is longer than its content.")
    return found


def encode_data_row(values: tuple[bytes | None, ...] | list[bytes | None]) -> bytes:
    return reading.message(FromServer.DATA_ROW, reading.values(values))


def decode_command_complete(body: bytes) -> CommandComplete:
    reader = Body(body)
    found = CommandComplete(reader.text())
    reader.end()
    return found


def encode_command_complete(tag: str) -> bytes:
    return reading.message(FromServer.COMMAND_COMPLETE, reading.text(tag))


def _fields(body: bytes, encoding: str) -> dict[str, str]:
    reader = Body(body, encoding, _LOSSLESS)
    fields: dict[str, str] = {}
    while code := reader.byte():
        letter = chr(code)
        if code > 127 or letter in fields:
            raise FrameError("A field of an error message is unknown or comes twice.")
        fields[letter] = reader.text()
    reader.end()
    return fields


def _encoded_fields(kind: int, fields: dict[str, str], encoding: str) -> bytes:
    parts = [letter.encode("ascii") + reading.text(value, encoding, _LOSSLESS) for letter, value in fields.items()]
    return reading.message(kind, *parts, b"\0")


def decode_error_response(body: bytes, encoding: str = "utf-8") -> ErrorResponse:
    return ErrorResponse(_fields(body, encoding))


def encode_error_response(fields: dict[str, str], encoding: str = "utf-8") -> bytes:
    return _encoded_fields(FromServer.ERROR_RESPONSE, fields, encoding)


def error(sqlstate: str, text: str, *, hint: str = "", detail: str = "", severity: str = "ERROR") -> bytes:
    """An ErrorResponse of our own, with the fields that every client reads."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text, "D": detail, "H": hint}
    return encode_error_response({letter: value.replace("\0", "") for letter, value in fields.items() if value})


def decode_notice_response(body: bytes, encoding: str = "utf-8") -> NoticeResponse:
    return NoticeResponse(_fields(body, encoding))


def encode_notice_response(fields: dict[str, str], encoding: str = "utf-8") -> bytes:
    return _encoded_fields(FromServer.NOTICE_RESPONSE, fields, encoding)


def decode_ready_for_query(body: bytes) -> ReadyForQuery:
    if body not in (b"I", b"T", b"E"):
        raise FrameError("ReadyForQuery says I, T or E.")
    return ReadyForQuery(body.decode())


def encode_ready_for_query(status: str) -> bytes:
    return reading.message(FromServer.READY_FOR_QUERY, status.encode("ascii"))


def decode_parameter_status(body: bytes) -> ParameterStatus:
    reader = Body(body, errors=_LOSSLESS)
    found = ParameterStatus(reader.text(), reader.text())
    reader.end()
    return found


def encode_parameter_status(name: str, value: str) -> bytes:
    parts = (reading.text(part, errors=_LOSSLESS) for part in (name, value))
    return reading.message(FromServer.PARAMETER_STATUS, *parts)


def decode_backend_key_data(body: bytes) -> BackendKeyData:
    reader = Body(body)
    found = BackendKeyData(reader.uint32(), reader.rest())
    if not SECRET_BYTES[0] <= len(found.secret) <= SECRET_BYTES[1]:
        raise FrameError("A cancel key has 4 to 256 bytes.")
    return found


def encode_backend_key_data(pid: int, secret: bytes) -> bytes:
    return reading.message(FromServer.BACKEND_KEY_DATA, U32.pack(pid), secret)


def decode_copy_response(body: bytes) -> CopyResponse:
    """Of CopyInResponse, CopyOutResponse and CopyBothResponse alike."""
    reader = Body(body)
    found = CopyResponse(reader.byte(), reader.formats())
    reader.end()
    if found.format > 1:
        raise FrameError("A format code is neither 0 (text) nor 1 (binary).")
    return found


def _encoded_copy(kind: int, format: int, column_formats: tuple[int, ...]) -> bytes:
    return reading.message(kind, bytes([format]), reading.formats(column_formats))


def encode_copy_in_response(format: int, column_formats: tuple[int, ...]) -> bytes:
    return _encoded_copy(FromServer.COPY_IN_RESPONSE, format, column_formats)


def encode_copy_out_response(format: int, column_formats: tuple[int, ...]) -> bytes:
    return _encoded_copy(FromServer.COPY_OUT_RESPONSE, format, column_formats)


def encode_copy_both_response(format: int, column_formats: tuple[int, ...]) -> bytes:
    return _encoded_copy(FromServer.COPY_BOTH_RESPONSE, format, column_formats)


def decode_parameter_description(body: bytes) -> ParameterDescription:
    reader = Body(body)
    found = ParameterDescription(reader.oids(reader.uint16()))
    reader.end()
    return found


def encode_parameter_description(types: tuple[int, ...]) -> bytes:
    return reading.message(FromServer.PARAMETER_DESCRIPTION, struct.pack(f">H{len(types)}I", len(types), *types))


def decode_notification_response(body: bytes, encoding: str = "utf-8") -> NotificationResponse:
    reader = Body(body, encoding, _LOSSLESS)
    found = NotificationResponse(reader.uint32(), reader.text(), reader.text())
    reader.end()
    return found


def encode_notification_response(pid: int, channel: str, payload: str, encoding: str = "utf-8") -> bytes:
    parts = (reading.text(part, encoding, _LOSSLESS) for part in (channel, payload))
    return reading.message(FromServer.NOTIFICATION_RESPONSE, U32.pack(pid), *parts)


def decode_negotiate_protocol_version(body: bytes) -> NegotiateProtocolVersion:
    reader = Body(body)
    version, count = reader.uint32(), reader.uint32()
    if count > len(body):
        raise FrameError("A message is shorter than the counts inside it say.")
    found = NegotiateProtocolVersion(version, tuple(reader.text() for _ in range(count)))
    reader.end()
    return found


def encode_negotiate_protocol_version(version: int, options: tuple[str, ...]) -> bytes:
    names = (reading.text(option) for option in options)
    kind = FromServer.NEGOTIATE_PROTOCOL_VERSION
    return reading.message(kind, U32.pack(version), U32.pack(len(options)), *names)


def decode_authentication(body: bytes) -> Authentication:
    reader = Body(body)
    code = reader.uint32()
    if code == SASL:
        mechanisms = []
        while mechanism := reader.text():
            mechanisms.append(mechanism)
        reader.end()
        return Authentication(code, tuple(mechanisms))
    found = Authentication(code, data=reader.rest())
    sizes = {AUTHENTICATION_OK: 0, CLEARTEXT_PASSWORD: 0, MD5_PASSWORD: 4}
    if len(found.data) != sizes.get(code, len(found.data)):
        raise FrameError("An authentication request has another length than its kind.")
    return found


def encode_authentication(code: int, mechanisms: tuple[str, ...] = (), data: bytes = b"") -> bytes:
    listed = [*(reading.text(mechanism) for mechanism in mechanisms), b"\0"] if code == SASL else []
    return reading.message(FromServer.AUTHENTICATION, U32.pack(code), *listed, data)


def decode_function_call_response(body: bytes) -> FunctionCallResponse:
    reader = Body(body)
    found = FunctionCallResponse(reader.value())
    reader.end()
    return found


def encode_function_call_response(value: bytes | None) -> bytes:
    told = I32.pack(-1) if value is None else I32.pack(len(value)) + value
    return reading.message(FromServer.FUNCTION_CALL_RESPONSE, told)


def encode_parse_complete() -> bytes:
    return reading.message(FromServer.PARSE_COMPLETE)


def encode_bind_complete() -> bytes:
    return reading.message(FromServer.BIND_COMPLETE)


def encode_close_complete() -> bytes:
    return reading.message(FromServer.CLOSE_COMPLETE)


def encode_no_data() -> bytes:
    return reading.message(FromServer.NO_DATA)


def encode_empty_query_response() -> bytes:
    return reading.message(FromServer.EMPTY_QUERY_RESPONSE)


def encode_portal_suspended() -> bytes:
    return reading.message(FromServer.PORTAL_SUSPENDED)
