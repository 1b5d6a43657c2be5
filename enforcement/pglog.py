"""Follow PostgreSQL's csvlog, jsonlog or stderr files and send the records that matter to the store.

    TOUCHSTONE_URL=https://store TOUCHSTONE_TOKEN_FILE=token \\
        python -m enforcement.pglog /var/log/postgresql --format csvlog --spool /var/lib/touchstone/pglog

Sent: pgAudit's lines, errors, connections, disconnections, statements with durations, starts and stops, changed
parameters. Rotation by new names, by renaming and by truncation is followed; a restart goes on at the exact byte.
At first start all files in the folder are read, unless --from-end. Run it as a user who may read the log files.
With --canary-dsn a marked statement is run every 5 minutes, and its absence from the log is reported as a gap.
"""

from __future__ import annotations

import argparse
import functools
import time
import urllib.parse
from pathlib import Path
from typing import Any

from enforcement import canary, logfiles, logrecords, shipper, spool

PATTERNS = {"csvlog": "*.csv*", "jsonlog": "*.json*", "stderr": "*.log*"}
CHUNK_BYTES = 1 << 20
SAVE_SECONDS = 5.0


class Follower:
    """Reads every file of a folder to its end, again and again, and puts what matters into the spool."""

    def __init__(self, folder: logfiles.Folder, log_format: str, queue: spool.Spool, stop: shipper.StopSignal) -> None:
        self.folder, self.log_format, self.queue, self.stop = folder, log_format, queue, stop
        self.canary = canary.Canary(lambda name: None, 0)
        self.skipped = 0
        self._last_text = str(queue.position.get("text", ""))
        self._saved = queue.position.get("files")
        self._save_due = 0.0

    def read_all(self) -> bool:
        """One pass over all files; whether anything was read. Stopped on a signal."""
        gaps = self.folder.look()
        if gaps:
            self._put(gaps)
        progress = False
        for file in self.folder.files():
            progress = self._read(file) or progress
        overdue = self.canary.tick()
        if overdue:
            self._put(overdue)
        self._save()
        return progress

    def _read(self, file: logfiles.LogFile) -> bool:
        progress = False
        while True:
            self.stop.check()
            data = file.read(CHUNK_BYTES)
            if data:
                self._take(file, list(file.splitter.feed(data)))
                progress = True
                continue
            if file.is_finished(self.folder):
                self._take(file, list(file.splitter.rest()))
                file.finish()
            elif file.is_quiet() and isinstance(file.splitter, logrecords.StderrSplitter):
                self._take(file, list(file.splitter.settle()))
            return progress

    def _take(self, file: logfiles.LogFile, records: list[logrecords.Record]) -> None:
        items = []
        for record in records:
            begin, file.offset = file.offset, record.end
            if not record.raw or not logrecords.is_interesting(self.log_format, record.raw):
                self.skipped += bool(record.raw)
                continue
            if self.canary.waits():
                self.canary.saw(record.raw)
            items.append(self._item(f"{file.name}:{begin}", record))
            self._last_text = f"{file.name}:{record.end}"
            if len(items) == shipper.BATCH_ITEMS:
                self._put(items)
                items = []
        if items:
            self._put(items)

    def _item(self, position: str, record: logrecords.Record) -> bytes:
        raw, cut = record.raw, b""
        if record.length > len(raw):
            raw = logrecords.whole_again(self.log_format, raw)
            cut = b',"truncated":{"length":%d}' % record.length
        if self.log_format == "jsonlog":
            return (
                shipper.item(position, raw) + cut
                if logrecords.is_json(raw)
                else shipper.bytes_item(position, raw) + cut
            )
        return shipper.raw_item(position, raw) + cut

    def _put(self, items: list[bytes]) -> None:
        self.queue.put(items, self._position(), while_waiting=self.stop.check)
        self.queue.sync()

    def _position(self) -> dict[str, Any]:
        self._saved = self.folder.state()
        self._save_due = time.monotonic() + SAVE_SECONDS
        return {"text": self._last_text, "files": self._saved}

    def _save(self) -> None:
        # What was read and not sent moves the position too, or a restart reads it all again.
        if time.monotonic() >= self._save_due and self.folder.state() != self._saved:
            self._put([])


def parser() -> argparse.ArgumentParser:
    """The command line; its help is the documentation."""
    made = argparse.ArgumentParser(
        "enforcement.pglog", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("directory", type=Path, help="folder of the log files")
    made.add_argument("--format", choices=tuple(PATTERNS), default="csvlog", help="csvlog (default), jsonlog or stderr")
    made.add_argument("--stderr", dest="format", action="store_const", const="stderr", help="same as --format stderr")
    made.add_argument(
        "--pattern", help="names of the files (*.csv*, *.json* or *.log*, by format); compressed files are left out"
    )
    made.add_argument("--line-prefix", default="%m [%p] ", help="the server's log_line_prefix, for --format stderr")
    made.add_argument("--timezone", help="IANA name of log_timezone, when its abbreviation is ambiguous (CST, IST)")
    made.add_argument("--from-end", action="store_true", help="at first start skip what is in the files already")
    default = shipper.secret("TOUCHSTONE_DSN")
    made.add_argument(
        "--canary-dsn", default=default, help="database for the canary statement (TOUCHSTONE_DSN; none: no canary)"
    )
    made.add_argument("--canary-seconds", type=float, default=300.0, help="time between canaries (300)")
    made.add_argument("--canary-within", type=float, default=canary.WITHIN_SECONDS, help=argparse.SUPPRESS)
    made.add_argument("--poll-seconds", type=float, default=0.2, help="time between looks at the files (0.2)")
    shipper.add_options(made)
    return made


def query_string(options: argparse.Namespace) -> str:
    """What the store must know to read this feed."""
    known = {"timezone": options.timezone, "line_prefix": options.line_prefix if options.format == "stderr" else None}
    return urllib.parse.urlencode({name: value for name, value in known.items() if value})


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT (or once); exit status 0."""
    options = parser().parse_args(arguments)
    if not options.directory.is_dir():
        raise SystemExit(f"{options.directory} is not a folder. Give the folder that holds the server's log files.")
    stop = shipper.StopSignal()
    queue = shipper.open_spool(options)
    sender = shipper.from_options(options, queue, f"postgres-{options.format}", query_string(options))
    splitters: dict[str, logfiles.SplitterFactory] = {
        "csvlog": logrecords.CsvSplitter,
        "jsonlog": logrecords.LineSplitter,
        "stderr": functools.partial(logrecords.StderrSplitter, line_prefix=options.line_prefix),
    }
    pattern = options.pattern or PATTERNS[options.format]
    skip = options.from_end and "files" not in queue.position
    folder = logfiles.Folder(
        options.directory, pattern, splitters[options.format], queue.position.get("files", []), skip_existing=skip
    )
    follower = Follower(folder, options.format, queue, stop)
    if options.canary_dsn:
        emit = functools.partial(canary.emit_statement, options.canary_dsn)
        follower.canary = canary.Canary(emit, options.canary_seconds, options.canary_within)
    try:
        follow(follower, sender, options)
    except PermissionError as error:
        raise SystemExit(
            f"{error.filename} may not be read. Run as a member of the group that owns the log files."
        ) from None
    return 0


def follow(follower: Follower, sender: shipper.Shipper, options: argparse.Namespace) -> None:
    """Read until told to stop, or with --once until there is nothing more and the store has all."""
    try:
        while True:
            progress = follower.read_all()
            sender.note(skipped=follower.skipped, canary=follower.canary.problem)
            if options.once and not progress:
                while not sender.drain(1.0):
                    follower.stop.check()
                break
            if not progress:
                follower.stop.event.wait(options.poll_seconds)
            follower.stop.check()
    except shipper.Stopped:
        pass
    finally:
        sender.stop()
        follower.queue.close()


if __name__ == "__main__":
    raise SystemExit(main())
