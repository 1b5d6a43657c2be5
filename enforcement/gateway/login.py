"""How a client gets in: startup, TLS, token. A state machine without I/O; `upstream` is its other side.

`ClientLogin.feed` takes bytes and gives steps, to be done in order. It knows the protocol and nothing of people: whether
the token is good is decided by whoever does the step `SignIn`, who then calls `accepted` or `refusal`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

import msgspec

from enforcement.gateway import messages
from enforcement.gateway.messages import FrameError, FromClient

NEWEST = messages.PROTOCOL_3_2
LOGIN_LIMIT_BYTES = 64 << 10
PASSED_BY_US = frozenset({"user", "database", "replication", "options"})
ABOUT = "touchstone."
TOLD = frozenset({"purpose", "ticket", "run_id", "tool_call_id"})
NO = frozenset({"", "0", "f", "false", "n", "no", "of", "off"})

_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL | re.ASCII)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NAME = re.compile(r"[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)*")


class LoginRefused(Exception):
    """The client does not get in. `sentence` is for the client and holds nothing that it did not send itself."""

    def __init__(self, sqlstate: str, sentence: str) -> None:
        self.sqlstate, self.sentence = sqlstate, sentence
        super().__init__(sentence)


class ClientStartup(msgspec.Struct, frozen=True, kw_only=True):
    """What a client said at its start.

    `parameters` are the settings for the database by lower-case name, those inside `options` among them;
    `about` holds purpose, ticket, run_id and tool_call_id where they were given. `version` is the one agreed on.
    """

    version: int
    user: str
    database: str
    parameters: dict[str, str]
    about: dict[str, str]
    is_encrypted: bool


class Send(msgspec.Struct, frozen=True):
    data: bytes


class StartTls(msgspec.Struct, frozen=True):
    """Do the handshake, then call `tls_started` and feed what comes decrypted."""


class Cancel(msgspec.Struct, frozen=True):
    """A connection of its own that asks to cancel: look the key up, close without an answer."""

    pid: int
    secret: bytes


class SignIn(msgspec.Struct, frozen=True):
    startup: ClientStartup
    token: str


class Refuse(msgspec.Struct, frozen=True):
    """Send `data`, record that somebody did not get in, close. `startup` is there when the client came so far."""

    data: bytes
    sqlstate: str
    sentence: str
    startup: ClientStartup | None


Step = Send | StartTls | Cancel | SignIn | Refuse


class ClientLogin:
    """One connection until its token was taken. `is_encrypted` where TLS was there before the first byte."""

    def __init__(self, *, tls: bool, cleartext_allowed: bool, is_encrypted: bool = False) -> None:
        """`tls`: we have a certificate. `cleartext_allowed`: a token may come without TLS (loopback only)."""
        self._tls, self._cleartext_allowed = tls, cleartext_allowed
        self._is_encrypted = is_encrypted
        self._reader = messages.Reader(sender="client", limit_bytes=LOGIN_LIMIT_BYTES, startup=True)
        self._requested: set[type] = set()
        self._startup: ClientStartup | None = None
        self._waits_for_us = False

    def feed(self, data: bytes) -> list[Step]:
        """What is to be done now. After Cancel, SignIn or Refuse the login is over."""
        steps: list[Step] = []
        try:
            frames = self._reader.feed(data)
            for frame in frames:
                if self._waits_for_us:
                    raise LoginRefused("08P01", "Bytes came before the answer that they should wait for.")
                steps += self._beginning(frame.body) if self._startup is None else self._password(frame)
            # What was sent in clear before TLS must never count as sent inside it (CVE-2021-23222).
            if self._waits_for_us and self._reader.unread():
                raise LoginRefused("08P01", "Bytes came before the answer that they should wait for.")
        except FrameError as error:
            return [self._refuse("08P01", str(error))]
        except LoginRefused as refusal:
            return [self._refuse(refusal.sqlstate, refusal.sentence)]
        return steps

    def tls_started(self) -> None:
        """The handshake is done: everything that comes now is encrypted."""
        self._is_encrypted, self._waits_for_us = True, False

    def accepted(self, parameters: Mapping[str, str], pid: int, secret: bytes) -> bytes:
        """The messages that let the client in, with the database's settings and a cancel key of our own."""
        told = [messages.encode_parameter_status(name, value) for name, value in parameters.items()]
        ok = messages.encode_authentication(messages.AUTHENTICATION_OK)
        key = messages.encode_backend_key_data(pid, secret)
        return b"".join([ok, *told, key, messages.encode_ready_for_query(messages.IDLE)])

    def _refuse(self, sqlstate: str, sentence: str) -> Refuse:
        self._waits_for_us = True
        return Refuse(refusal(sqlstate, sentence), sqlstate, sentence, self._startup)

    def _beginning(self, body: bytes) -> list[Step]:
        told = messages.decode_beginning(body)
        if isinstance(told, messages.CancelRequest):
            self._waits_for_us = True
            return [Cancel(told.pid, told.secret)]
        if isinstance(told, messages.Startup):
            return self._begin(told)
        if type(told) in self._requested:
            raise LoginRefused("08P01", "The same kind of encryption was asked for twice.")
        self._requested.add(type(told))
        if isinstance(told, messages.GSSENCRequest) or not self._tls or self._is_encrypted:
            return [Send(b"N")]
        self._waits_for_us = True
        return [Send(b"S"), StartTls()]

    def _begin(self, told: messages.Startup) -> list[Step]:
        self._startup = startup(told, self._is_encrypted)
        if not self._is_encrypted and not self._cleartext_allowed:
            raise LoginRefused("28000", "A token travels only inside TLS. Connect with sslmode=verify-full.")
        unknown = tuple(name for name in told.parameters if name.startswith("_pq_."))
        ask = messages.encode_authentication(messages.CLEARTEXT_PASSWORD)
        if told.version > NEWEST or unknown:
            ask = messages.encode_negotiate_protocol_version(self._startup.version, unknown) + ask
        return [Send(ask)]

    def _password(self, frame: messages.Frame) -> list[Step]:
        assert self._startup is not None
        if frame.kind != FromClient.PASSWORD:
            raise LoginRefused("08P01", "A password message was asked for and another came.")
        token = messages.decode_password(frame.body).password.strip()
        if not token:
            raise LoginRefused("28P01", "The password is empty. Put a token there: the page Connect gives one.")
        self._waits_for_us = True
        return [SignIn(self._startup, token)]


def refusal(sqlstate: str, sentence: str, hint: str = "") -> bytes:
    """The FATAL error that ends a connection."""
    return messages.error(sqlstate, sentence, hint=hint, severity="FATAL")


def cancel_key(version: int) -> tuple[int, bytes]:
    """A process id and secret of our own: four bytes for protocol 3.0, thirty-two from 3.2 on."""
    return secrets.randbelow(2**31 - 1) + 1, secrets.token_bytes(32 if version >= messages.PROTOCOL_3_2 else 4)


def startup(told: messages.Startup, is_encrypted: bool) -> ClientStartup:
    """The startup message, understood. LoginRefused for replication, and for what cannot be understood."""
    given = told.parameters
    if given.get("replication", "").lower() not in NO:
        raise LoginRefused("0A000", "Replication does not go through the gateway: connect to the database itself.")
    user = given.get("user", "")
    if not user:
        raise LoginRefused("28000", "The startup message names no user.")
    settings = options(given.get("options", ""))
    settings |= {name.lower(): value for name, value in given.items()}
    about = {name.removeprefix(ABOUT): value for name, value in settings.items() if name.startswith(ABOUT)}
    if not about.keys() <= TOLD:
        raise LoginRefused("22023", f"The gateway knows {', '.join(ABOUT + name for name in sorted(TOLD))}; no others.")
    return ClientStartup(
        version=min(told.version, NEWEST),
        user=user,
        database=given.get("database") or user,
        parameters={n: v for n, v in settings.items() if n not in PASSED_BY_US and not n.startswith((ABOUT, "_pq_."))},
        about=about,
        is_encrypted=is_encrypted,
    )


def options(text: str) -> dict[str, str]:
    """The settings in the startup parameter `options`: `-c name=value` and `--name=value`, the last of a name counts.

    Cut into words as PostgreSQL cuts them: at blanks, a backslash takes the next character as it is. LoginRefused for
    every other command-line option.
    """
    words = [
        re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in re.findall(r"(?:\\.|[^\s\\])+", text, re.DOTALL)
    ]
    found: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word == "-c":
            pair = words.pop(0) if words else ""
        elif word.startswith(("-c", "--")):
            pair = word[2:]
        else:
            pair = ""
        name, equals, value = pair.partition("=")
        name = name.replace("-", "_").lower()
        if not equals or not _NAME.fullmatch(name):
            raise LoginRefused("22023", "In `options` the gateway takes -c name=value and nothing else.")
        found[name] = value
    return found
