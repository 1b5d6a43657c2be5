"""How the gateway gets into the database: SCRAM-SHA-256, bound to TLS where that can be. A state machine without I/O.

Every other way of signing in is refused: a server that asks for less has not proved that it knows the password,
and what it asks for would be the password itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import scramp
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from enforcement.gateway import messages
from enforcement.gateway.messages import FrameError, FromServer

MECHANISMS = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"})
LOGIN_LIMIT_BYTES = 1 << 20
WEAK = {
    messages.AUTHENTICATION_OK: "lets the gateway in without a password (trust, peer or cert)",
    messages.CLEARTEXT_PASSWORD: "asks for the password in clear text",
    messages.MD5_PASSWORD: "asks for an MD5 password",
}

_SQLSTATE = re.compile("[0-9A-Z]{5}")


class UpstreamRefused(Exception):
    """The gateway does not get into the database. `sentence` may be shown to the client; `detail` is for the operator."""

    def __init__(self, sqlstate: str, sentence: str, detail: str = "") -> None:
        self.sqlstate, self.sentence, self.detail = sqlstate, sentence, detail
        super().__init__(f"{sentence} {detail}".strip())


def ask_tls() -> bytes:
    """The first packet of a connection that is to be encrypted."""
    return messages.encode_ssl_request()


def check_tls_answer(answer: bytes) -> None:
    """UpstreamRefused unless the server agreed to TLS and sent nothing else (CVE-2021-23222)."""
    if answer == b"N":
        raise UpstreamRefused("08001", "The database does not speak TLS.", "Set ssl = on there.")
    if answer != b"S":
        raise UpstreamRefused("08P01", "The database answered the request for TLS with something else.")


class UpstreamLogin:
    """One sign-in as `user` with `password`. Send `begin`, then feed what comes and send what `feed` gives, until `is_done`.

    `certificate` is the server's, in DER, when the connection is encrypted. Done, it has the server's `parameters`, the `pid`
    and `secret` of its cancel key, and in `rest` the bytes that came behind its end.
    """

    def __init__(
        self,
        user: str,
        password: str,
        database: str,
        parameters: Mapping[str, str],
        certificate: bytes | None = None,
    ) -> None:
        self._user, self._password = user, password
        self._asked = {"user": user, "database": database, **parameters}
        self._certificate = certificate
        self._reader = messages.Reader(sender="server", limit_bytes=LOGIN_LIMIT_BYTES)
        self._scram: scramp.ScramClient | None = None
        self._is_proved = self._is_in = False
        self.parameters: dict[str, str] = {}
        self.pid, self.secret = 0, b""
        self.is_done = False
        self.rest = b""

    def begin(self) -> bytes:
        """The startup message."""
        return messages.encode_startup(messages.PROTOCOL_3_0, self._asked)

    def feed(self, data: bytes) -> bytes:
        """What to send next, perhaps nothing. UpstreamRefused when this server does not let us in as it should."""
        answer = b""
        try:
            for frame in self._reader.feed(data):
                if self.is_done:
                    self.rest += frame.raw
                else:
                    answer += self._take(frame)
        except FrameError as error:
            raise UpstreamRefused("08P01", "The database does not keep to the protocol.", str(error)) from None
        except scramp.ScramException as error:
            raise UpstreamRefused("08004", self._not_let_in(), f"SCRAM: {error}") from None
        if self.is_done:
            self.rest += self._reader.unread()
        return answer

    def _take(self, frame: messages.Frame) -> bytes:
        match frame.kind:
            case FromServer.AUTHENTICATION if not self._is_in:
                return self._authenticate(messages.decode_authentication(frame.body))
            case FromServer.ERROR_RESPONSE:
                raise self._error(messages.decode_error_response(frame.body).fields)
            case FromServer.PARAMETER_STATUS if self._is_in:
                told = messages.decode_parameter_status(frame.body)
                self.parameters[told.name] = told.value
            case FromServer.BACKEND_KEY_DATA if self._is_in:
                key = messages.decode_backend_key_data(frame.body)
                self.pid, self.secret = key.pid, key.secret
            case FromServer.READY_FOR_QUERY if self._is_in:
                self.is_done = messages.decode_ready_for_query(frame.body).status == messages.IDLE
            case FromServer.NOTICE_RESPONSE:
                messages.decode_notice_response(frame.body)
            case _:
                raise FrameError(f"{chr(frame.kind)} was not expected while signing in.")
        return b""

    def _authenticate(self, asked: messages.Authentication) -> bytes:
        if asked.code == messages.SASL and self._scram is None:
            return self._first(asked.mechanisms)
        if asked.code == messages.SASL_CONTINUE and self._scram is not None:
            self._scram.set_server_first(_ascii(asked.data))
            return messages.encode_sasl_response(self._scram.get_client_final().encode())
        if asked.code == messages.SASL_FINAL and self._scram is not None:
            self._scram.set_server_final(_ascii(asked.data))
            self._is_proved = True
            return b""
        if asked.code == messages.AUTHENTICATION_OK and self._is_proved:
            self._is_in = True
            return b""
        weak = WEAK.get(asked.code, f"asks for authentication of kind {asked.code}")
        sentence = "The gateway signs in to the database with SCRAM-SHA-256 only."
        raise UpstreamRefused("08004", sentence, f"It {weak}: set scram-sha-256 in its pg_hba.conf.")

    def _first(self, offered: tuple[str, ...]) -> bytes:
        usable = [name for name in offered if name in MECHANISMS]
        binding = _end_point(self._certificate) if self._certificate is not None else None
        if binding is None:
            usable = [name for name in usable if not name.endswith("-PLUS")]
        if not usable:
            raise UpstreamRefused(
                "08004", "The gateway signs in to the database with SCRAM-SHA-256 only.", str(offered)
            )
        bound = None if binding is None else ("tls-server-end-point", binding)
        # PostgreSQL takes the user from the startup message and ignores this one.
        self._scram = scramp.ScramClient(usable, "touchstone", self._password, channel_binding=bound)
        first = self._scram.get_client_first()
        return messages.encode_sasl_initial_response(self._scram.mechanism_name, first.encode())

    def _error(self, fields: dict[str, str]) -> UpstreamRefused:
        code = fields.get("C", "")
        told = f"{code}: {fields.get('M', '')}"
        # Class 28 is about the gateway's own password: the client's token is not what is wrong.
        if code.startswith("28") or not _SQLSTATE.fullmatch(code):
            return UpstreamRefused("08004", self._not_let_in(), told)
        sentence = f"The database does not take the connection now (SQLSTATE {code}). Try again, or tell the operator."
        return UpstreamRefused(code, sentence, told)

    def _not_let_in(self) -> str:
        return f"The database did not let the gateway in as {self._user}. Tell whoever runs the gateway."


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise FrameError("A SCRAM message is not ASCII.") from None


def _end_point(certificate: bytes) -> bytes | None:
    """The certificate's hash that SCRAM-SHA-256-PLUS binds to (RFC 5929); None where that is not defined."""
    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    if algorithm is None:
        return None
    weak = isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    digest = hashes.Hash(hashes.SHA256() if weak else algorithm)
    digest.update(certificate)
    return digest.finalize()
