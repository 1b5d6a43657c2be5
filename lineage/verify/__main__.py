"""The command `python -m lineage.verify` (docs/verify.md)."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from lineage.errors import TouchstoneError
from lineage.notes import Policy, parse_policy
from lineage.notes.receipts import HEADER
from lineage.verify import Verdict, verify
from lineage.verify.verdicts import NO_MEMORY, UNREADABLE, printable


class _Parser(argparse.ArgumentParser):
    """A wrong command line is unreadable (3); argparse's own 2 would say that only trust is missing."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(UNREADABLE, f"{message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs the checks, prints one line for each and the verdict; returns the exit code."""
    parser = _Parser(prog="python -m lineage.verify", description="Checks an evidence pack or report offline.")
    parser.add_argument("file", type=Path, help="the pack (.touchstone.zip), PDF report or .tlog-proof")
    parser.add_argument("--policy", type=Path, help="your policy file: the keys that you trust")
    parser.add_argument(
        "--receipts", type=Path, help="receipts that a source kept: notes, JSON lines, or a folder of such"
    )
    parser.add_argument("--leaves", type=Path, help="the file of leaves that lies beside a pack of a large range")
    parser.add_argument("--leaf", type=Path, help="the record's leaf, for a .tlog-proof that does not carry it")
    parser.add_argument(
        "--archive", type=Path, help="the ZIP that lies beside a report whose files are too large for it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    # What it thinks of a damaged PDF goes into our own words only.
    logging.getLogger("pyhanko").addHandler(logging.NullHandler())
    verdict = _verdict(options)
    if options.json:
        print(json.dumps(verdict.as_dict()))
    else:
        print(*verdict.checks, printable(verdict.sentence), sep="\n")
    return verdict.exit


def _verdict(options: argparse.Namespace) -> Verdict:
    try:
        policy = _policy(options.policy)
        receipts = _receipts(options.receipts)
        leaf = options.leaf.read_bytes() if options.leaf else None
        with ExitStack() as stack:
            file = stack.enter_context(options.file.open("rb"))
            leaves, archive = (
                stack.enter_context(path.open("rb")) if path else None for path in (options.leaves, options.archive)
            )
            return verify(file, policy, receipts, leaves=leaves, leaf=leaf, archive=archive)
    except TouchstoneError as error:
        return Verdict.unreadable(error.message)
    except MemoryError:
        return Verdict.unreadable(NO_MEMORY)
    except UnicodeDecodeError:
        return Verdict.unreadable("The policy or receipts file is not UTF-8 text.")
    except OSError as error:
        return Verdict.unreadable(f"{error.filename}: {error.strerror}.")


def _policy(path: Path | None) -> Policy | None:
    return None if path is None else parse_policy(path.read_bytes().decode())


def _receipts(path: Path | None) -> list[str]:
    """The receipt notes of a file or of all files of a folder: notes as they stand, or a JSON value a line."""
    if path is None:
        return []
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    return [note for file in files for note in _notes(file.read_bytes().decode())]


def _notes(text: str) -> list[str]:
    if not text.lstrip().startswith(('"', "{")):
        return [note for note in re.split(f"(?m)^(?={HEADER}$)", text) if note]
    return [_receipt(line) for line in text.splitlines() if line.strip()]


def _receipt(line: str) -> str:
    """The note of one line: a JSON string, or an object with the string `receipt`."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    note = value.get("receipt") if isinstance(value, dict) else value
    if not isinstance(note, str):
        raise TouchstoneError("A line of the receipts file holds no receipt.")
    return note


if __name__ == "__main__":
    sys.exit(main())
