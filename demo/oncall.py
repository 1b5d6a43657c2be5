"""On call's webhook: it keeps what it is told of findings, and checks the signature as any receiver would."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.actors import AGENT, Deed
from demo.promises import Promise, expect

if TYPE_CHECKING:
    from demo.run import Demo

WITHIN_SECONDS = 10
PATIENCE_SECONDS = 60
AFTERWARDS_SECONDS = 5
STATEMENT = "delete from notes where id between 1051 and 1053"


class OnCall:
    """Listens on a free port of this machine; what comes is written to `file`, a line each."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.secret = ""
        self.got: list[dict[str, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self.server.serve_forever, name="on-call", daemon=True).start()

    def words(self, environment: str) -> list[str]:
        """The command that makes this a receiver; it prints the secret."""
        url = f"http://127.0.0.1:{self.server.server_address[1]}/findings"
        return ["receiver", "set", "on-call", "--address", url, "--severity", "medium", "--environment", environment,
                "--reason", "On call wants to know within seconds"]  # fmt: skip

    def take(self, headers: dict[str, str], body: bytes) -> None:
        told = json.loads(body)
        told |= {"id": headers["webhook-id"], "genuine": self._is_genuine(headers, body), "at": time.time()}
        self.got.append(told)
        with self.file.open("a") as file:
            file.write(json.dumps(told) + "\n")

    def _is_genuine(self, headers: dict[str, str], body: bytes) -> bool:
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return hmac.compare_digest(headers["webhook-signature"], f"v1,{wanted}")


def _handler(on_call: OnCall) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            on_call.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    return Handler


def told_within_seconds(demo: Demo) -> str:
    """The agent deletes rows, with somebody's approval; on call's webhook has it within 10 s, once, signed."""
    deed = Deed("agent-delete-again", "analyst_agent", "insight-agent")
    with demo.actors.session(
        "analyst_agent", "insight-agent/2.3", "dana@shop.example", agent=AGENT, purpose="Tidy up three more notes"
    ) as connection:
        began = dt.datetime.now(dt.UTC)
        demo.actors.approved(connection, deed, STATEMENT, "Three old notes")
    expect(deed.committed, f"the deletion ended with {deed.error}")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (mine := [told for told in demo.on_call.got if _is_it(told, began)]):
        expect(
            time.monotonic() < deadline, f"not told; told so far: {[t['touchstone']['rule'] for t in demo.on_call.got]}"
        )
        time.sleep(0.1)
    first = mine[0]
    took = first["at"] - dt.datetime.fromisoformat(first["touchstone"]["occurred_at"]).timestamp()
    time.sleep(AFTERWARDS_SECONDS)
    mine = [told for told in demo.on_call.got if _is_it(told, began)]
    expect(len(mine) == 1, f"told {len(mine)} times")
    expect(all(told["genuine"] for told in demo.on_call.got), "a signature does not hold")
    ids = [told["id"] for told in demo.on_call.got]
    expect(len(ids) == len(set(ids)), "an id came twice")
    expect(took <= WITHIN_SECONDS, f"told only after {took:.1f} s")
    return f"“{first['touchstone']['sentence']}” {took:.1f} s after the act, signed, once; {len(ids)} messages so far, each once"


def _is_it(told: dict[str, Any], began: dt.datetime) -> bool:
    ours = told["touchstone"]
    return ours["rule"] == "agent-destructive" and dt.datetime.fromisoformat(ours["occurred_at"]) >= began


PROMISES = [
    Promise("A destructive act by the agent reaches on call's webhook within 10 s, once, signed", told_within_seconds)
]
