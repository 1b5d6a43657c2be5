"""Real witness processes for tests, and a log that lives in memory to show them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from lineage import merkle, notes

ROOT = Path(__file__).resolve().parent.parent


class Log:
    """A log of made-up leaves with a key of its own: notes and proofs of any size."""

    def __init__(self, origin: str = "log.example/orders", skey: str | None = None, salt: str = "") -> None:
        self.skey = skey or notes.generate_key(origin)
        self.origin, self.salt = origin, salt
        self.vkey = notes.vkey_of(self.skey)

    def hashes(self, size: int) -> list[bytes]:
        return [merkle.leaf_hash(f"{self.salt}{n}".encode()) for n in range(size)]

    def note(self, size: int) -> bytes:
        return notes.sign(notes.make_checkpoint(self.origin, size, merkle.root(self.hashes(size))), self.skey)

    def body(self, old: int, size: int) -> bytes:
        proof = merkle.consistency_proof(self.hashes(size), old) if 0 < old < size else []
        return submission(old, proof, self.note(size))


def submission(old: int, proof: list[bytes], note: bytes) -> bytes:
    import base64

    lines = "".join(base64.b64encode(each).decode() + "\n" for each in proof)
    return f"old {old}\n{lines}\n".encode() + note


class Witness:
    """`python -m lineage.witness serve` as a process of its own. Use it as a context."""

    def __init__(self, state: Path, *logs: str, name: str = "witness.example/w1", program: str | None = None) -> None:
        start = ["-c", program] if program else ["-m", "lineage.witness"]
        words = ["serve", "--state", str(state), "--name", name, "--bind", "127.0.0.1:0"]
        self.state = state
        self.command = [sys.executable, *start, *words, *(word for log in logs for word in ("--log", log))]

    def __enter__(self) -> Witness:
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.vkey = self.process.stdout.readline().decode().strip()
        told = self.process.stderr.readline().decode()
        assert "listening on" in told, told + self.process.stderr.read().decode()
        self.url = f"http://127.0.0.1:{told.split(' for ')[0].rpartition(':')[2]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.told = self.process.communicate(timeout=60)[1].decode()

    def post(self, body: bytes, path: str = "/add-checkpoint") -> tuple[int, str, str]:
        """(status, body, content type) of one submission."""
        request = urllib.request.Request(self.url + path, data=body)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers["Content-Type"]
