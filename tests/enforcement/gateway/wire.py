"""A plain connection to PostgreSQL that shows the bytes of its answers, and what the masking lets through of them."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Sequence

import psycopg
import scramp
from psycopg.conninfo import conninfo_to_dict

from enforcement.gateway import catalog, classes, masking, messages
from enforcement.gateway.catalog import Catalog
from enforcement.gateway.effects import JudgedPart, Scope, resolve
from enforcement.gateway.messages import Field, Frame, FromServer

SCOPE = Scope(("public",), "postgres", "postgres", frozenset())


def read_catalog(dsn: str) -> Catalog:
    """The catalog of a database, as the gateway reads it."""
    with psycopg.connect(dsn, autocommit=True) as db:
        cursor = db.execute(catalog.SQL)  # type: ignore[arg-type]
        while cursor.nextset():
            pass
        told = cursor.fetchone()
    assert told is not None
    return catalog.read(told[0], lambda s, r, c, t, tags: classes.classify(s, r, c, t, ()))


class Wire:
    """Signed in by SCRAM. `ask` runs one text by the simple or (with `binary`) the extended protocol."""

    def __init__(self, dsn: str) -> None:
        told = conninfo_to_dict(dsn)
        self.socket = socket.create_connection((str(told["host"]), int(str(told["port"]))), 30)
        self.reader = messages.Reader(sender="server")
        self.waiting: list[Frame] = []
        self._sign_in(str(told["user"]), str(told["password"]), str(told["dbname"]))

    def _sign_in(self, user: str, password: str, dbname: str) -> None:
        parameters = {"user": user, "database": dbname, "client_encoding": "UTF8"}
        body = b"".join(part.encode() + b"\0" for pair in parameters.items() for part in pair) + b"\0"
        self.socket.sendall((8 + len(body)).to_bytes(4, "big") + (196608).to_bytes(4, "big") + body)
        client = scramp.ScramClient(["SCRAM-SHA-256"], user, password)
        while (frame := self._next()).kind != FromServer.READY_FOR_QUERY:
            if frame.kind != FromServer.AUTHENTICATION:
                continue
            told = bytes(frame.body)
            step, rest = int.from_bytes(told[:4], "big"), told[4:]
            if step == 10:
                first = client.get_client_first().encode()
                self._send(b"p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first)
            elif step == 11:
                client.set_server_first(rest.decode())
                self._send(b"p", client.get_client_final().encode())

    def _send(self, kind: bytes, body: bytes) -> None:
        self.socket.sendall(kind + (len(body) + 4).to_bytes(4, "big") + body)

    def _next(self) -> Frame:
        while not self.waiting:
            data = self.socket.recv(65536)
            assert data, "the server closed the connection"
            self.waiting += self.reader.feed(data)
        return self.waiting.pop(0)

    def answers(self, sql: str, binary: bool = False) -> list[Frame]:
        """All frames that one text gives, to ReadyForQuery."""
        if binary:
            self._send(b"P", b"\0" + sql.encode() + b"\0\0\0")
            self._send(b"B", b"\0\0\0\0\0\0\0\1\0\1")
            self._send(b"D", b"P\0")
            self._send(b"E", b"\0\0\0\0\0")
            self._send(b"S", b"")
        else:
            self._send(b"Q", sql.encode() + b"\0")
        return self._all()

    def described(self, sql: str) -> tuple[Field, ...] | None:
        """The columns of a query that is not run; None where it has none or fails."""
        self._send(b"P", b"\0" + sql.encode() + b"\0\0\0")
        self._send(b"D", b"S\0")
        self._send(b"S", b"")
        told = [frame for frame in self._all() if frame.kind == FromServer.ROW_DESCRIPTION]
        return messages.decode_row_description(told[0].body).fields if told else None

    def _all(self) -> list[Frame]:
        frames = []
        while (frame := self._next()).kind != FromServer.READY_FOR_QUERY:
            frames.append(frame)
        return frames

    def close(self) -> None:
        self.socket.close()


class Client:
    """What a client whose protected columns are masked would get: bytes, or the sentence of the refusal."""

    def __init__(self, wire: Wire, known: Catalog, mask: frozenset[str]) -> None:
        self.wire, self.catalog, self.mask = wire, known, mask
        self.prepared: dict[str, str] = {}
        self.cursors: dict[str, JudgedPart] = {}

    def ask(self, sql: str, binary: bool = False) -> bytes:
        """The bytes of all answers, masked. Statements are sent one by one; a refused one is not sent."""
        judged = resolve(sql, (), self.catalog, SCOPE, self.prepared)
        seen = b""
        for part in judged.parts:
            text = sql[part.part.text_start : part.part.text_end]
            if part.part.prepares:
                self.prepared[part.part.prepares] = text
            if part.part.declares:
                self.cursors[part.part.declares] = part
            shown = self.cursors.get(part.part.fetches or "", part)
            sentence = masking.refuse(shown, self.catalog, self.mask)
            if sentence is not None:
                self.wire.answers("rollback")
                return seen + b"REFUSED " + sentence.encode()
            copies = part.part.copies
            described = self.wire.described(copies.query) if copies and copies.query else None
            seen += self._shown(shown, self.wire.answers(text, binary and not copies), described)
        return seen

    def _shown(self, part: JudgedPart, frames: Sequence[Frame], described: tuple[Field, ...] | None = None) -> bytes:
        fields: tuple[Field, ...] = ()
        plan = masking.plan(fields, part, self.catalog, self.mask)
        copy = None
        seen = []
        for frame in frames:
            body = bytes(frame.body)
            if frame.kind == FromServer.ROW_DESCRIPTION:
                fields = messages.decode_row_description(body).fields
                plan = masking.plan(fields, part, self.catalog, self.mask)
            elif frame.kind == FromServer.DATA_ROW:
                row = plan.row(messages.row_values(frame.data, frame.start + 5, frame.stop))
                seen.append(messages.encode_data_row(row))
            elif frame.kind == FromServer.COPY_OUT_RESPONSE:
                assert part.part.copies is not None
                copy = masking.copy_plan(part.part.copies, part, self.catalog, self.mask, described)
            elif frame.kind == FromServer.COPY_DATA:
                assert copy is not None
                seen += [copy.feed(body[at : at + 7]) for at in range(0, len(body), 7)]
            elif frame.kind in (FromServer.ERROR_RESPONSE, FromServer.NOTICE_RESPONSE):
                told = messages.decode_error_response(body).fields
                seen.append(repr(masking.scrub(told, part, self.mask)).encode())
            elif frame.kind in (FromServer.PARAMETER_STATUS, FromServer.NOTIFICATION_RESPONSE):
                seen.append(body)
        if copy is not None:
            seen.append(copy.finish())
        return b"\n".join(seen)


def traces(marker: str) -> list[bytes]:
    """The forms in which a value must not show: itself, backwards, halves, upper case, hex, base64, digest, spaced."""
    import base64

    raw = marker.encode()
    half = len(raw) // 2
    forms = [raw, raw[::-1], raw.upper(), raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw)[:-4]]
    forms += [part for part in (raw[:half], raw[half:], raw[:half][::-1], raw[half:][::-1]) if len(part) >= 6]
    forms += [hashlib.md5(raw).hexdigest().encode(), hashlib.sha256(raw).hexdigest().encode()]
    forms += [hashlib.md5(raw).digest(), hashlib.sha256(raw).digest()]
    return forms


def leaks(seen: bytes, markers: Sequence[str]) -> list[bytes]:
    """The traces of markers in what a client got, also where only blanks, NULs and marks stand between the letters."""
    packed = re.sub(rb"[\s\0,{}\"'()|:-]", b"", seen)
    return [form for marker in markers for form in traces(marker) if form in seen or form in packed]
