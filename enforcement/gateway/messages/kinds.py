"""The message kinds of PostgreSQL's protocol 3.0 and 3.2, and how long a message of each kind may be.

The same letter means one thing from a client and another from a server, so each direction has its own table.
Lengths count as the protocol counts them: with the four bytes of the length itself.
"""

from __future__ import annotations

from typing import Final, Literal

Sender = Literal["client", "server"]

LIMIT_BYTES: Final = 64 << 20
STARTUP_LIMIT_BYTES: Final = 10_000
AUTHENTICATION_LIMIT_BYTES: Final = 64 << 10
SMALL_LIMIT_BYTES: Final = 10_000
EMPTY: Final = 4
STARTUP: Final = 0
"""The kind given to the packets of the beginning, which have no letter."""


class FromClient:
    QUERY: Final = ord("Q")
    PARSE: Final = ord("P")
    BIND: Final = ord("B")
    DESCRIBE: Final = ord("D")
    EXECUTE: Final = ord("E")
    CLOSE: Final = ord("C")
    SYNC: Final = ord("S")
    FLUSH: Final = ord("H")
    TERMINATE: Final = ord("X")
    FUNCTION_CALL: Final = ord("F")
    COPY_DATA: Final = ord("d")
    COPY_DONE: Final = ord("c")
    COPY_FAIL: Final = ord("f")
    PASSWORD: Final = ord("p")


class FromServer:
    AUTHENTICATION: Final = ord("R")
    BACKEND_KEY_DATA: Final = ord("K")
    BIND_COMPLETE: Final = ord("2")
    CLOSE_COMPLETE: Final = ord("3")
    COMMAND_COMPLETE: Final = ord("C")
    COPY_BOTH_RESPONSE: Final = ord("W")
    COPY_DATA: Final = ord("d")
    COPY_DONE: Final = ord("c")
    COPY_IN_RESPONSE: Final = ord("G")
    COPY_OUT_RESPONSE: Final = ord("H")
    DATA_ROW: Final = ord("D")
    EMPTY_QUERY_RESPONSE: Final = ord("I")
    ERROR_RESPONSE: Final = ord("E")
    FUNCTION_CALL_RESPONSE: Final = ord("V")
    NEGOTIATE_PROTOCOL_VERSION: Final = ord("v")
    NO_DATA: Final = ord("n")
    NOTICE_RESPONSE: Final = ord("N")
    NOTIFICATION_RESPONSE: Final = ord("A")
    PARAMETER_DESCRIPTION: Final = ord("t")
    PARAMETER_STATUS: Final = ord("S")
    PARSE_COMPLETE: Final = ord("1")
    PORTAL_SUSPENDED: Final = ord("s")
    READY_FOR_QUERY: Final = ord("Z")
    ROW_DESCRIPTION: Final = ord("T")


_CLIENT = {
    **dict.fromkeys(b"QPBFd", LIMIT_BYTES),
    **dict.fromkeys(b"DECf", SMALL_LIMIT_BYTES),
    **dict.fromkeys(b"SHXc", EMPTY),
    FromClient.PASSWORD: AUTHENTICATION_LIMIT_BYTES,
}
_SERVER = {
    **dict.fromkeys(b"TDdVENtS", LIMIT_BYTES),
    **dict.fromkeys(b"CGHW", SMALL_LIMIT_BYTES),
    **dict.fromkeys(b"123Insc", EMPTY),
    **dict.fromkeys(b"RAv", AUTHENTICATION_LIMIT_BYTES),
    FromServer.COMMAND_COMPLETE: SMALL_LIMIT_BYTES,
    FromServer.BACKEND_KEY_DATA: 264,
    FromServer.READY_FOR_QUERY: 5,
}


def limits(sender: Sender, limit_bytes: int) -> tuple[int, ...]:
    """The longest length allowed for each of the 256 kinds; 0 for a kind that `sender` does not have."""
    table = _CLIENT if sender == "client" else _SERVER
    return tuple(min(table.get(kind, 0), limit_bytes) for kind in range(256))
