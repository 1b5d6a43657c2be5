"""The demo as a customer of the store: its command line and its HTTP interface, nothing else."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
ATTEMPTS = 30
# Long enough for a machine that is busy with something else.
PATIENCE_SECONDS = 300


class Store:
    """One running store: `url`, and the environment its commands need."""

    def __init__(self, url: str, environment: dict[str, str]) -> None:
        self.url = url
        self.environment = {**os.environ, **environment}
        self.token = ""

    def manage(self, *words: str, **more: str) -> str:
        """What `bin/manage …` prints, with more in its environment. RuntimeError with what it said when it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=BASE_DIR, env=self.environment | more, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"bin/manage {' '.join(words)}: {(done.stdout + done.stderr).strip()[-2000:]}")
        return done.stdout.strip()

    def manage_all(self, commands: list[list[str]]) -> list[str]:
        """What each of several `bin/manage` commands prints; their answers may be secrets. RuntimeError as above."""
        done = subprocess.run(
            [sys.executable, "-m", "demo.commands"], input=json.dumps(commands),
            cwd=BASE_DIR, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"a command failed: {done.stderr.strip()[-2000:]}")
        return list(json.loads(done.stdout))

    def ingest(self, format_name: str, token: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Post one batch until the store has it. OSError after half a minute without an answer."""
        body = "\n".join(json.dumps(item) for item in items).encode()
        for attempt in range(ATTEMPTS):
            try:
                return dict(json.loads(self._send(f"/api/v1/ingest/{format_name}", token, body)))
            except urllib.error.HTTPError as error:
                if error.code not in (429, 502, 503) or attempt == ATTEMPTS - 1:
                    raise RuntimeError(f"the store answered {error.code}: {error.read(2000).decode()}") from error
            except OSError:
                if attempt == ATTEMPTS - 1:
                    raise
            time.sleep(1)
        raise AssertionError("unreachable")

    def heartbeat(self, token: str, last_sequence: int) -> None:
        """Say that a source lives and which number it sent last. OSError when the store does not answer."""
        at = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._send("/api/v1/heartbeat", token, json.dumps({"last_sequence": last_sequence, "at": at}).encode())

    def ask(self, path: str, **parameters: str) -> dict[str, Any]:
        """One answer of the API, as the user whose token `self.token` is."""
        query = urllib.parse.urlencode(parameters)
        return dict(json.loads(self._send(f"/api/v1/{path}?{query}", self.token)))

    def ask_all(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """All items of an answer, page by page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            answer = self.ask(path, **parameters, **({"cursor": cursor} if cursor else {}), limit="1000")
            items += answer["items"]
            cursor = answer["next"]
            if not cursor:
                return items

    def post(self, path: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a JSON object, as whose API token it is. urllib's HTTPError when it is refused."""
        return dict(json.loads(self._send(path, token, json.dumps(body).encode())))

    def get(self, path: str) -> bytes:
        """Any address of the store, with the API token."""
        return self._send(path, self.token)

    def is_up(self) -> bool:
        """Whether it says that it is ready."""
        try:
            self._send("/readyz", "")
        except OSError:
            return False
        return True

    def _send(self, path: str, token: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/x-ndjson"
        request = urllib.request.Request(self.url + path, data=body, headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
            return bytes(answer.read())
