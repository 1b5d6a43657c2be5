"""`python -m lineage.witness serve | pull | key`: a witness for transparency logs (docs/witness.md)."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lineage import notes
from lineage.errors import SettingsInvalid, StoreUnavailable, TouchstoneError
from lineage.witness import pull
from lineage.witness.server import Server, say
from lineage.witness.state import State

Keys = dict[str, list[notes.VerifierKey]]


def known_logs(policy: Path | None, vkeys: Sequence[str]) -> Keys:
    """The trusted keys by origin, from the `log` lines of a policy file and from --log. SettingsInvalid: there are none."""
    keys = list(notes.parse_policy(policy.read_text()).logs) if policy else []
    keys += [notes.parse_vkey(text) for text in vkeys]
    if not keys:
        raise SettingsInvalid("Name the log whose checkpoints you watch: --log VKEY, or --policy FILE with a log line.")
    logs: Keys = {}
    for key in keys:
        if key not in logs.setdefault(key.name, []):
            logs[key.name].append(key)
    return logs


def serve(options: argparse.Namespace) -> int:
    """Answers submissions until SIGTERM or SIGINT."""
    state, logs = State(options.state), known_logs(options.policy, options.log)
    with state.open(options.name) as book:
        vkey = notes.vkey_of(book.key)
    host, _, port = options.bind.rpartition(":")
    with Server((host.strip("[]"), int(port)), state, logs) as server:

        def stop(*_: Any) -> None:
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        sys.stdout.write(f"{vkey}\n")
        sys.stdout.flush()
        say(f"listening on {host}:{server.server_port} for {', '.join(logs)}")
        server.serve_forever()
    return 0


def pulled(options: argparse.Namespace) -> int:
    """Exit 0: the newest checkpoint is kept. 1: refused, both notes are printed. 2: nothing was learnt."""
    state, logs = State(options.state), known_logs(options.policy, options.log)
    with state.open(options.name):
        pass
    token = options.token_file.read_text().strip() if options.token_file else options.token
    server = pull.Server(options.url, token or os.environ.get("TOUCHSTONE_TOKEN", ""))
    try:
        checkpoint, line = pull.pull(server, state, logs)
    except pull.Contradiction as error:
        sys.stderr.write(
            f"REFUSED. {error.message}\nNothing was cosigned; the state file is as it was. Keep both notes: two signed "
            "checkpoints that contradict each other show that the log's operator keeps two histories.\n"
        )
        sys.stdout.write(f"--- shown now\n{error.shown}--- kept\n{error.kept}---\n")
        return 1
    except StoreUnavailable as error:
        sys.stderr.write(f"Nothing was learnt; the state file is as it was. {error.message}\n")
        return 2
    sys.stdout.write(f"kept: {checkpoint.origin} at size {checkpoint.size}\n{line}")
    try:
        pull.give_back(server, checkpoint.size, line)
    except StoreUnavailable as error:
        sys.stderr.write(f"The checkpoint is kept, but the log did not take the cosignature. {error.message}\n")
    return 0


def key(options: argparse.Namespace) -> int:
    """Prints the witness's public key, alone."""
    with State(options.state).open(options.name) as book:
        sys.stdout.write(notes.vkey_of(book.key) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lineage.witness", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="serve | pull | key")
    for run, name, words in (
        (serve, "serve", "answer POST /add-checkpoint (C2SP tlog-witness)"),
        (pulled, "pull", "fetch the newest checkpoint, check it, keep it, give the cosignature back"),
        (key, "key", "print this witness's public key"),
    ):
        one = commands.add_parser(name, help=words, description=words)
        one.set_defaults(run=run)
        one.add_argument("--state", type=Path, required=True, help="the witness's one file; made at first use")
        one.add_argument("--name", help="the witness's name, such as audit.example/w1; needed at first use")
        if run is key:
            continue
        one.add_argument("--policy", type=Path, help="a policy file whose `log` lines name the logs (docs/verify.md)")
        one.add_argument("--log", action="append", default=[], metavar="VKEY", help="a log's key (GET /log/key)")
    serving, pulling = commands.choices["serve"], commands.choices["pull"]
    serving.add_argument("--bind", default="127.0.0.1:7790", metavar="HOST:PORT")
    pulling.add_argument("url", help="address of the log's server")
    pulling.add_argument("--token", help="an auditor's API token; better in a file or in TOUCHSTONE_TOKEN")
    pulling.add_argument("--token-file", type=Path)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command. Deliberate errors are one line on stderr and status 1."""
    options = _parser().parse_args(words)
    try:
        status: int = options.run(options)
    except TouchstoneError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return status


if __name__ == "__main__":
    raise SystemExit(main())
