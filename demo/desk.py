"""A small change desk: somebody asks, somebody decides, and each decision goes to the store from the desk's own source.

    POST /requests {"id": "OPS-42", "by": "bob@shop.example", "reason": "…"}
    POST /requests/OPS-42/decision {"by": "erin@shop.example", "approve": true}

It keeps its state in one file and sends what the store has not acknowledged again. It does not forbid deciding one's
own request: that such a thing happens is what the store's questions are there to show.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from demo.store import Store

Json = dict[str, Any]
HEARTBEAT_SECONDS = 10


class Desk:
    """The desk's book: requests by id, and the events that the store has not acknowledged yet."""

    def __init__(self, file: Path, store: Store, token: str) -> None:
        self.file = file
        self.store = store
        self.token = token
        self._lock = threading.Lock()
        self._book: Json = (
            json.loads(file.read_text()) if file.exists() else {"requests": {}, "outbox": [], "sequence": 0}
        )

    def request(self, request_id: str, by: str, reason: str) -> None:
        """Somebody asks. ValueError: the id is taken."""
        with self._lock:
            if request_id in self._book["requests"]:
                raise ValueError(f"{request_id} exists")
            self._book["requests"][request_id] = {"by": by, "reason": reason, "state": "requested"}
            self._write(self._event(request_id, "access_request", "requested", by))

    def decide(self, request_id: str, by: str, approve: bool) -> None:
        """Somebody decides. KeyError: nobody asked; ValueError: it is decided."""
        with self._lock:
            entry = self._book["requests"][request_id]
            if entry["state"] != "requested":
                raise ValueError(f"{request_id} is {entry['state']}")
            entry["state"] = "approved" if approve else "rejected"
            self._write(self._event(request_id, "approval", entry["state"], by))

    def flush(self) -> None:
        """Send what is waiting. OSError while the store cannot be reached: nothing is lost."""
        with self._lock:
            if self._book["outbox"]:
                self.store.ingest("events", self.token, self._book["outbox"])
                self._book["outbox"] = []
                self._save()

    def beat(self) -> None:
        """Tell the store that the desk lives and how much it has sent. OSError while the store cannot be reached."""
        with self._lock:
            waiting = len(self._book["outbox"])
            self.store.heartbeat(self.token, self._book["sequence"] - waiting)

    def _event(self, request_id: str, kind: str, state: str, by: str) -> Json:
        entry = self._book["requests"][request_id]
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        approval: Json = {
            "request_id": request_id,
            "state": state,
            "requested_by": entry["by"],
            "reason": entry["reason"],
        }
        if state != "requested":
            approval |= {"approvers": [by], "decided_at": now}
        return {
            "kind": "decision", "source_event_id": f"{request_id}/{state}", "occurred_at": now,
            "occurred_at_quality": "source", "ticket": request_id, "purpose": entry["reason"], "approval": approval,
            "decision": {"type": kind, "subject": request_id, "transition": state, "decided_by": by},
        }  # fmt: skip

    def _write(self, event: Json) -> None:
        self._book["sequence"] += 1
        self._book["outbox"].append(event | {"sequence": self._book["sequence"]})
        self._save()

    def _save(self) -> None:
        draft = self.file.with_suffix(".new")
        draft.write_text(json.dumps(self._book))
        draft.rename(self.file)


def serve(desk: Desk) -> ThreadingHTTPServer:
    """The desk over HTTP on a free port of 127.0.0.1; `server_address` says which. Runs until `shutdown()`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            parts = self.path.strip("/").split("/")
            try:
                if len(parts) == 1:
                    desk.request(body["id"], body["by"], body["reason"])
                else:
                    desk.decide(parts[1], body["by"], body["approve"])
                desk.flush()
                status, said = 200, "ok"
            except (KeyError, ValueError) as error:
                status, said = 409, str(error)
            except OSError:
                status, said = 202, "noted; it goes to the store as soon as that answers"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *arguments: Any) -> None:
            """Nothing: the desk's log is the store's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=_beat, args=(desk,), daemon=True).start()
    return server


def _beat(desk: Desk) -> None:
    while True:
        with contextlib.suppress(OSError):
            desk.flush()
            desk.beat()
        time.sleep(HEARTBEAT_SECONDS)
