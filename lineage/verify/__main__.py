"""The command `python -m lineage.verify` (docs/verify.md)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from lineage.errors import TouchstoneError
from lineage.notes import Policy, parse_policy
from lineage.verify import Verdict, verify
from lineage.verify.verdicts import UNREADABLE, printable


class _Parser(argparse.ArgumentParser):
    """A wrong command line is unreadable (3); argparse's own 2 would say that only trust is missing."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(UNREADABLE, f"{message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs the checks, prints one line for each and the verdict; returns the exit code."""
    parser = _Parser(prog="python -m lineage.verify", description="Checks an evidence pack or report offline.")
    parser.add_argument("file", type=Path, help="the pack (.touchstone.zip) or PDF report")
    parser.add_argument("--policy", type=Path, help="your policy file: the keys that you trust")
    parser.add_argument("--receipts", type=Path, help="receipts that a source kept: one note, or JSON lines")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
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
        return verify(options.file.read_bytes(), policy, receipts)
    except TouchstoneError as error:
        return Verdict.unreadable(error.message)
    except UnicodeDecodeError:
        return Verdict.unreadable("The policy or receipts file is not UTF-8 text.")
    except OSError as error:
        return Verdict.unreadable(f"{error.filename}: {error.strerror}.")


def _policy(path: Path | None) -> Policy | None:
    return None if path is None else parse_policy(path.read_bytes().decode())


def _receipts(path: Path | None) -> list[str]:
    """The receipt notes of a file: one note as it stands, or a JSON value a line."""
    text = "" if path is None else path.read_bytes().decode()
    if not text.lstrip().startswith(('"', "{")):
        return [text] if text else []
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
