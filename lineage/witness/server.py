"""The witness's HTTP side: `POST /add-checkpoint`, and nothing else."""

from __future__ import annotations

import socketserver
import sys
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from lineage import notes
from lineage.witness import rules
from lineage.witness.rules import Answer
from lineage.witness.state import State

DISCARDED_MOST = 4 * 1024 * 1024
Logs = Mapping[str, Sequence[notes.VerifierKey]]


def add_checkpoint(state: State, logs: Logs, body: bytes) -> Answer:
    """The answer to one submission. Comparing with what is kept and keeping the new one is one locked step."""
    read = rules.read(body, logs)
    if isinstance(read, Answer):
        return read
    with state.open() as book:
        refusal = rules.refusal(read, *book.held(read.checkpoint.origin))
        if refusal is None:
            return Answer(200, state.take(book, read.note))
        if refusal.is_fork:
            keep_both(read.note, book.logs[read.checkpoint.origin].note if read.checkpoint.origin in book.logs else "")
        return refusal


def keep_both(shown: bytes, kept: str) -> None:
    """Print a signed checkpoint that does not continue the kept one, with that one: together they may be evidence."""
    say("Refused: the checkpoint below is signed, but was not shown to continue the one kept. Keep both.")
    sys.stderr.write(f"--- shown\n{shown.decode()}--- kept\n{kept}---\n")
    sys.stderr.flush()


def say(line: str) -> None:
    """One line on stderr, at once."""
    sys.stderr.write(f"witness: {line}\n")
    sys.stderr.flush()


class Server(socketserver.ThreadingMixIn, HTTPServer):
    """A thread a connection; a silent connection is closed after `Handler.timeout` seconds."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], state: State, logs: Logs) -> None:
        self.state, self.logs = state, logs
        super().__init__(address, Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "touchstone-witness"
    sys_version = ""
    timeout = 15

    def do_POST(self) -> None:
        """Answers a submission."""
        length = self.headers.get("Content-Length", "")
        if self.path.rstrip("/").rpartition("/")[2] != "add-checkpoint":
            answer = Answer(404, "not found: a witness answers to POST /add-checkpoint\n")
        elif not (length.isascii() and length.isdigit() and len(length) < 9) or int(length) > rules.BODY_MOST:
            answer = Answer(400, f"bad request: send a body of at most {rules.BODY_MOST} bytes, with its length\n")
        else:
            body = self.rfile.read(int(length))
            answer = self._judged(body) if len(body) == int(length) else Answer(400, "bad request: body cut off\n")
            self._answer(answer)
            return
        # What is not read away could reach the sender as a reset before the answer does.
        if length.isascii() and length.isdigit():
            self.rfile.read(min(int(length[:9]), DISCARDED_MOST))
        self.close_connection = True
        self._answer(answer)

    def _judged(self, body: bytes) -> Answer:
        try:
            return add_checkpoint(self.server.state, self.server.logs, body)
        except Exception as error:  # noqa: BLE001 whatever it was, nothing is cosigned
            say(f"nothing cosigned: {type(error).__name__}: {error}")
            return Answer(500, "internal error: nothing was cosigned\n")

    def _answer(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Method, path and status, as ASCII without control characters."""
        say(ascii(format % args)[1:-1])
