"""One connection, of a client or of the database: bytes in, bytes out, TLS, back-pressure. Knows nothing of messages.

It begins as something to be read from step by step (`take`, while somebody signs in) and is then taken over by whoever pumps
(`hand_over`), which calls straight into the session for speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

EARLY_BYTES = 1 << 20
WRITE_HIGH_BYTES = 256 << 10
LINGER_SECONDS = 5.0


class Lost(Exception):
    """The other side is gone, or never came to be; the text says how."""


class Pump(Protocol):
    """Who takes a connection over."""

    def received(self, wire: Wire, data: bytes) -> None: ...
    def was_lost(self, wire: Wire, why: str) -> None: ...
    def is_full(self, wire: Wire, full: bool) -> None: ...


class Wire(asyncio.Protocol):
    """One connection. `arrived` is called when a client has connected."""

    def __init__(self, arrived: Callable[[Wire], None] | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_tls = False
        self._arrived = arrived
        self._pump: Pump | None = None
        self._early = bytearray()
        self._why_lost: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._full = False

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing() and self._why_lost is None

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the other side."""
        name = self.transport.get_extra_info("peername") if self.transport else None
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)

    def certificate(self) -> bytes | None:
        """The other side's certificate in DER, when there is TLS."""
        tls = self.transport.get_extra_info("ssl_object") if self.transport and self.is_tls else None
        return tls.getpeercert(binary_form=True) if tls is not None else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A transport of uvloop is no subclass of asyncio's, but does all that one does.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        keep_alive(self.transport.get_extra_info("socket"))
        if self._arrived is not None:
            arrived, self._arrived = self._arrived, None
            arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._pump is not None:
            self._pump.received(self, data)
            return
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self.pause(True)
        self._wake()

    def eof_received(self) -> bool:
        """A half-closed connection is a closed one."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._why_lost = f"the connection broke ({type(error).__name__})" if error else "the connection was closed"
        self._wake()
        if self._pump is not None:
            self._pump.was_lost(self, self._why_lost)

    def pause_writing(self) -> None:
        self._full = True
        if self._pump is not None:
            self._pump.is_full(self, True)

    def resume_writing(self) -> None:
        self._full = False
        if self._pump is not None:
            self._pump.is_full(self, False)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading."""
        if paused == self._is_paused or not self.is_open:
            return
        assert self.transport is not None
        self._is_paused = paused
        (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def write(self, data: bytes) -> None:
        """Send; what is not sent yet is kept. Nothing happens on a closed connection: `was_lost` tells."""
        if self.is_open:
            assert self.transport is not None
            self.transport.write(data)

    async def take(self) -> bytes:
        """The bytes that came since the last call, at least one. Lost when there will be none."""
        while not self._early:
            if self._why_lost is not None:
                raise Lost(self._why_lost)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken = bytes(self._early)
        self._early.clear()
        self.pause(False)
        return taken

    def hand_over(self, pump: Pump) -> None:
        """From now on `pump` gets everything, beginning with what came early."""
        self._pump = pump
        early = bytes(self._early)
        self._early.clear()
        if self._why_lost is not None:
            pump.was_lost(self, self._why_lost)
            return
        self.pause(False)
        if self._full:
            pump.is_full(self, True)
        if early:
            pump.received(self, early)

    async def secure(self, context: ssl.SSLContext, *, host: str | None) -> None:
        """Begin TLS: as its server (`host` None), or as its client towards `host`.

        Lost when bytes came before the handshake (CVE-2021-23222) or the handshake failed.
        """
        transport = self.transport
        if self._early or transport is None or not self.is_open:
            raise Lost("bytes came before the TLS handshake" if self._early else "the connection was closed")
        # Until TLS has taken over nothing is read: what comes belongs to the handshake.
        transport.pause_reading()
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport, self, context, server_side=host is None, server_hostname=host or None
            )
        except (OSError, ssl.SSLError, ssl.CertificateError) as error:
            raise Lost(f"the TLS handshake failed: {_reason(error)}") from None
        if secured is None:
            raise Lost("the TLS handshake failed")
        self.transport, self.is_tls = secured, True
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def close(self) -> None:
        """Send what is waiting, then close; a side that does not read is cut off after a while."""
        if self.transport is None or self.transport.is_closing():
            return
        self.pause(False)
        self.transport.close()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """Close at once, whatever waits."""
        if self.transport is not None and self._why_lost is None:
            self.transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def keep_alive(plain: socket.socket | None) -> None:
    """Half-open connections end within about two minutes; small messages go at once."""
    if plain is None:
        return
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000),
    ]
    for level, name, value in options:
        with contextlib.suppress(OSError):
            plain.setsockopt(level, name, value)


async def dial(host: str, port: int, seconds: float) -> Wire:
    """A new connection. Lost when nobody answers in time."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, wire = await loop.create_connection(Wire, host, port)
    except TimeoutError:
        raise Lost(f"nobody answered within {seconds:g} s") from None
    except OSError as error:
        raise Lost(error.strerror or type(error).__name__) from None
    return wire


def _reason(error: Exception) -> str:
    return getattr(error, "verify_message", "") or getattr(error, "reason", "") or type(error).__name__
