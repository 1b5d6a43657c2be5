"""The auditor of the demo: a witness on this machine with a state file of its own, which our log's policy names."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from demo.promises import Promise, expect
from demo.store import BASE_DIR
from lineage import notes
from lineage.witness.state import State

if TYPE_CHECKING:
    from demo.run import Demo

NAME = "audit.example/demo"
PATIENCE_SECONDS = 60


class Auditor:
    """Makes the witness's key and the policy file that names it. Everything lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.state, self.policy = folder / "witness.json", folder / "witnesses.policy"
        command = [sys.executable, "-m", "lineage.witness", "key", "--state", str(self.state), "--name", NAME]
        done = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=True)
        self.vkey = done.stdout.strip()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.bind = f"127.0.0.1:{free.getsockname()[1]}"
        self.policy.write_text(f"witness auditor {self.vkey} http://{self.bind}\nquorum auditor\n")
        self.environment = {"TOUCHSTONE_WITNESS_POLICY": str(self.policy), "TOUCHSTONE_WITNESS_SECONDS": "5"}

    def words(self, log_key: str) -> list[str]:
        """What `python -m lineage.witness` is told, once the log's key is known."""
        return ["serve", "--state", str(self.state), "--bind", self.bind, "--log", log_key]


def witnessed(demo: Demo) -> str:
    """The store serves a checkpoint that the auditor cosigned, and the auditor's own file remembers it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            note = demo.store.get("/checkpoint?witnessed=1")
            break
        except OSError:
            expect(time.monotonic() < deadline, "no checkpoint was cosigned within a minute")
            time.sleep(1)
    checkpoint = notes.parse_checkpoint(notes.verify(note, [demo.auditor.vkey]).text)
    with State(demo.auditor.state).open() as book:
        size, _ = book.held(checkpoint.origin)
    expect(size >= checkpoint.size, f"cosigned {checkpoint.size} records, remembers {size}")
    return f"{NAME} cosigned {checkpoint.size} records, and its own file remembers {size}"


PROMISES = [Promise("A witness outside holds a checkpoint", witnessed)]
