"""A process with everything imported and nothing connected, which forks one child for each act: `python -m` this.

Reads one JSON line for an act (`act`, and its facts), forks, waits, answers one JSON line: what the act returned, or
`signal` and `said` when the child did not come to its end.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import django

# What asking DuckDB and reading a table would import in each child.
import numpy.ma  # noqa: F401
import pyarrow.dataset  # noqa: F401

from config import garbage


def main() -> None:
    django.setup()
    from tests.crash import acts

    # As every process of the product does: else each child looks for garbage again and again.
    garbage.leave_loaded()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _child(acts.ACTS[asked["act"]], asked, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            raw = answer.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told = json.loads(raw) if raw else {}
        sys.stdout.write(json.dumps({"status": status, **told}) + "\n")
        sys.stdout.flush()
    # Without the ends of libraries, which have nothing to end.
    os._exit(0)


def _child(act: Any, asked: dict[str, Any], writing: int) -> None:
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    write = os.write
    try:
        told = act(asked)
    except BaseException:  # noqa: BLE001 - the parent tells it
        told = {"faults": [traceback.format_exc()]}
    view = json.dumps(told).encode()
    while view:
        view = view[write(writing, view) :]
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
