"""Stream every committed row change of one PostgreSQL database to the store, by logical decoding.

    TOUCHSTONE_URL=https://store TOUCHSTONE_TOKEN_FILE=token \\
        python -m enforcement.pgwal 'host=db dbname=shop user=touchstone' --create --spool /var/lib/touchstone/pgwal

Needs wal_level=logical, max_slot_wal_keep_size, a role with REPLICATION and, for --create of the publication, the
right to make it (superuser for all tables). What is rolled back is never sent. Each change has the key (system identifier, timeline,
commit LSN, ordinal). The slot is confirmed when the store has the changes or, while the store cannot be reached, when they
are durable in the spool; a full spool stops confirmation and the server keeps its log, up to max_slot_wal_keep_size.
If the server gives the slot up, the gap is reported with both positions and a new slot begins.
Give each database its own slot and its own spool.
"""

from __future__ import annotations

import argparse
import collections
import functools
import time
from typing import Any

import psycopg

from enforcement import canary, changes, replication, shipper, spool, transactions
from enforcement import pgoutput_decoder as decoder

FLUSH_ITEMS = 1000
FLUSH_BYTES = 1 << 20
STATUS_SECONDS = 1.0
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)


class Reader:
    """Reads one stream into the spool. `position` is the last item taken: (commit LSN, ordinal) of its timeline."""

    def __init__(
        self, wanted: replication.Wanted, queue: spool.Spool, sender: shipper.Shipper, stop: shipper.StopSignal
    ) -> None:
        self.wanted, self.queue, self.sender, self.stop = wanted, queue, sender, stop
        self.canary = canary.Canary(lambda name: None, 0)
        self.assembler = transactions.Assembler(queue.folder / "transactions", 20 << 30)
        self.catalog = replication.Catalog(wanted.dsn)
        self.received = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._taken: tuple[int, int] = (0, 0)
        self._end_lsn = 0
        self._safe: collections.deque[tuple[int, int]] = collections.deque()
        self._confirmed = 0
        self._status_due = 0.0

    def run(self, until: int | None = None) -> None:
        """Stream until told to stop, or until everything before `until` was read. Disconnected, psycopg.Error."""
        with canary.connect(self.wanted.dsn) as connection:
            row = connection.execute("select current_database()").fetchone()
            # Asked for UTF-8, a SQL_ASCII server would fail for ever at the first row that is not.
            raw = connection.info.parameter_status("server_encoding") == "SQL_ASCII"
        stream = replication.Stream(self.wanted, "SQL_ASCII" if raw else "UTF8")
        try:
            self._begin(stream, row[0] if row else "")
            while until is None or self.received < until:
                self._step(stream)
            self._flush(stream)
        finally:
            stream.close()

    def _begin(self, stream: replication.Stream, database: str) -> None:
        self.assembler.reset()
        self._waiting, self._waiting_bytes, self._end_lsn = [], 0, 0
        self._safe.clear()
        # The server begins to read before the confirmed position: what it says first is older than what was confirmed.
        self._confirmed = decoder.lsn_number(confirmed_before(self.queue) or "0/0")
        self.sender.note(reader="connected")
        position = self.queue.position
        known = position.get("system_identifier")
        if known not in (None, stream.system_identifier):
            raise replication.Unusable(
                f"This spool belongs to the database system {known}, this is {stream.system_identifier}: use another --spool."
            )
        self._taken = (position.get("lsn", 0), position.get("ordinal", 0))
        source = changes.Source(stream.system_identifier, stream.timeline, database)
        self.writer = changes.ItemWriter(source, self.catalog)
        if position.get("timeline", stream.timeline) != stream.timeline:
            self._taken = (0, 0)
            detail = f"The server went from timeline {position['timeline']} to {stream.timeline} (restore or failover)."
            alarm = shipper.custody_item("alarm", "timeline", detail, first=position.get("text", ""))
            self.queue.append([alarm], self._position(stream))
        else:
            self.queue.append([], self._position(stream))
        self.queue.sync()

    def _position(self, stream: replication.Stream) -> spool.Position:
        lsn, ordinal = self._taken
        kept = {"system_identifier": stream.system_identifier, "timeline": stream.timeline}
        return {**kept, "lsn": lsn, "ordinal": ordinal, "text": decoder.lsn_text(lsn)}

    def _step(self, stream: replication.Stream) -> None:
        received = stream.receive()
        if received is None:
            self._flush(stream)
            self._tick(stream)
            stream.wait(0.2)
        elif isinstance(received, replication.Keepalive):
            self._keepalive(stream, received)
        else:
            self._take(stream, received)

    def _keepalive(self, stream: replication.Stream, keepalive: replication.Keepalive) -> None:
        if not self.assembler.in_transaction():
            self._flush(stream)
            self._note_safe(keepalive.lsn)
            self.received = max(self.received, keepalive.lsn)
        if keepalive.wants_reply:
            self._status_due = 0.0
        self._tick(stream)

    def _take(self, stream: replication.Stream, message: bytes) -> None:
        if time.monotonic() >= self._status_due:
            self._tick(stream)
        if self.canary.waits():
            self.canary.saw(message)
        done = self.assembler.take(message)
        if isinstance(done, transactions.Committed):
            try:
                self._transaction(stream, done)
            finally:
                done.pending.close()
            self.received = max(self.received, done.commit.end_lsn)
        elif done is not None:
            self._loose(stream, done)

    def _transaction(self, stream: replication.Stream, done: transactions.Committed) -> None:
        lsn = done.commit.commit_lsn
        if lsn < self._taken[0]:
            self.writer.learn(done)
        else:
            after = self._taken[1] if lsn == self._taken[0] else 0
            for ordinal, of, item in self.writer.transaction(done, after, functools.partial(self._tick, stream)):
                self._add(stream, item, (lsn, ordinal), done.commit.end_lsn if ordinal == of else None)
        if not self._waiting:
            self._note_safe(done.commit.end_lsn)

    def _loose(self, stream: replication.Stream, message: decoder.Message) -> None:
        if (message.lsn, 0) > self._taken:
            self._add(stream, self.writer.loose_message(message), (message.lsn, 0), None)

    def _add(self, stream: replication.Stream, item: bytes, taken: tuple[int, int], end_lsn: int | None) -> None:
        self._waiting.append(item)
        self._waiting_bytes += len(item)
        self._taken = taken
        if end_lsn is not None:
            self._end_lsn = end_lsn
        if len(self._waiting) >= FLUSH_ITEMS or self._waiting_bytes >= FLUSH_BYTES:
            self._flush(stream)

    def _flush(self, stream: replication.Stream) -> None:
        """Make durable what waits in memory. Waits while the spool is full; the server is kept informed meanwhile."""
        if not self._waiting:
            return
        keep_alive = functools.partial(self._tick, stream)
        self.queue.put(self._waiting, self._position(stream), while_waiting=keep_alive)
        self.queue.sync()
        self._waiting, self._waiting_bytes = [], 0
        self._note_safe(self._end_lsn)
        self._tick(stream)

    def _note_safe(self, lsn: int) -> None:
        """Everything before `lsn` is in the spool up to the item appended last."""
        if self._safe and self._safe[-1][0] == self.queue.last:
            lsn = max(lsn, self._safe.pop()[1])
        self._safe.append((self.queue.last, lsn))

    def _tick(self, stream: replication.Stream) -> None:
        self.stop.check()
        reached = self.queue.acknowledged if self.sender.reachable else self.queue.synced
        while self._safe and self._safe[0][0] <= reached:
            self._confirmed = max(self._confirmed, self._safe.popleft()[1])
        if time.monotonic() >= self._status_due:
            self._status_due = time.monotonic() + STATUS_SECONDS
            if self._confirmed:
                spool.write_durably(self.queue.folder / "confirmed", decoder.lsn_text(self._confirmed).encode())
            stream.confirm(self._confirmed)
            late = self.canary.tick()
            if late:
                self.queue.append(late)
                self.queue.sync()
            self.sender.note(confirmed=decoder.lsn_text(self._confirmed), canary=self.canary.problem)


def prepare(wanted: replication.Wanted, queue: spool.Spool, *, stuck: bool = False) -> int:
    """Check settings, publication and slot, making what may be made; where the log ends now. Unusable, psycopg.Error.

    `stuck`: the slot stands before the publication was made (anew), where pgoutput can never read: replace it too.
    """
    with canary.connect(wanted.dsn) as connection:
        replication.check_settings(connection, wanted)
        replication.ensure_publication(connection, wanted)
        slot = replication.find_slot(connection, wanted)
        ran_before = "system_identifier" in queue.position
        if slot.is_lost or stuck or (slot.confirmed_lsn is None and ran_before):
            slot = _replace_lost_slot(connection, wanted, queue, slot)
        elif slot.confirmed_lsn is None:
            if not wanted.create:
                command = f"SELECT pg_create_logical_replication_slot('{wanted.slot}', 'pgoutput');"
                raise replication.Unusable(f"There is no slot {wanted.slot}. Start with --create, or run: {command}")
            slot = replication.Slot(replication.make_slot(connection, wanted, replace=False))
        _report_gap(queue, slot)
        return replication.wal_end(connection)


def _replace_lost_slot(
    connection: psycopg.Connection[Any], wanted: replication.Wanted, queue: spool.Spool, slot: replication.Slot
) -> replication.Slot:
    # Written down first: killed between here and the report, the next start still knows from where the gap goes.
    lost_from = queue.position.get("lost_from") or confirmed_before(queue) or queue.position.get("text", "")
    queue.append([], {**queue.position, "lost_from": lost_from})
    queue.sync()
    shipper.say(f"pgwal: the slot {wanted.slot} is lost; a new one begins and the gap is reported.")
    return replication.Slot(replication.make_slot(connection, wanted, replace=slot.confirmed_lsn is not None))


def _report_gap(queue: spool.Spool, slot: replication.Slot) -> None:
    begins, position, gap = decoder.lsn_text(slot.confirmed_lsn or 0), queue.position, None
    known = confirmed_before(queue)
    if "lost_from" in queue.position:
        position = {name: value for name, value in queue.position.items() if name != "lost_from"}
        detail = (
            "The server removed log that the slot still needed, or the slot was dropped. Changes between are missing."
        )
        gap = shipper.custody_item("gap", "slot", detail, first=queue.position["lost_from"], last=begins)
    elif known and decoder.lsn_number(known) < (slot.confirmed_lsn or 0):
        detail = "Somebody else moved the slot while this collector was away. Changes between are missing."
        gap = shipper.custody_item("gap", "slot", detail, first=known, last=begins)
    if gap is not None:
        queue.append([gap], position)
        queue.sync()
    if decoder.lsn_number(known or "0/0") < (slot.confirmed_lsn or 0):
        spool.write_durably(queue.folder / "confirmed", begins.encode())


def confirmed_before(queue: spool.Spool) -> str:
    """The position last confirmed to the server, empty when none was."""
    path = queue.folder / "confirmed"
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def parser() -> argparse.ArgumentParser:
    """The command line; its help is the documentation."""
    made = argparse.ArgumentParser(
        "enforcement.pgwal", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = shipper.secret("TOUCHSTONE_DSN")
    made.add_argument(
        "dsn",
        nargs="?",
        default=default,
        help="connection string of the database (TOUCHSTONE_DSN, or a file: TOUCHSTONE_DSN_FILE)",
    )
    made.add_argument("--slot", default="touchstone", help="replication slot (touchstone)")
    made.add_argument("--publication", default="touchstone", help="publication (touchstone)")
    made.add_argument("--create", action="store_true", help="make publication and slot when they are missing")
    made.add_argument("--tables", default="", help="with --create: publish only these, as schema.table,schema.table")
    made.add_argument(
        "--accept-unbounded-wal", action="store_true", help="run although max_slot_wal_keep_size is not set"
    )
    made.add_argument(
        "--accept-refused-updates",
        action="store_true",
        help="with --create: publish tables although PostgreSQL will refuse UPDATE and DELETE on them",
    )
    made.add_argument("--canary-seconds", type=float, default=300.0, help="time between canaries, 0 for none (300)")
    made.add_argument(
        "--transaction-limit", type=int, default=20, metavar="GIB", help="room for transactions in progress (20)"
    )
    shipper.add_options(made)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT (or once). Exit status 0, or 1 when the database is not set up for it."""
    options = parser().parse_args(arguments)
    if not options.dsn:
        raise SystemExit("Give the database's connection string, or set TOUCHSTONE_DSN.")
    tables = tuple(name.strip() for name in options.tables.split(",") if name.strip())
    wanted = replication.Wanted(
        options.dsn, options.slot, options.publication, tables, options.create,
        options.accept_unbounded_wal, options.accept_refused_updates,
    )  # fmt: skip
    stop = shipper.StopSignal()
    queue = shipper.open_spool(options)
    sender = shipper.from_options(options, queue, "pgoutput")
    reader = Reader(wanted, queue, sender, stop)
    reader.assembler.limit_bytes = options.transaction_limit << 30
    if not options.once:
        reader.canary = canary.Canary(functools.partial(canary.emit_message, options.dsn), options.canary_seconds)
    try:
        follow(reader, once=options.once)
    except shipper.Stopped:
        return 0
    except transactions.TooLarge as error:
        shipper.say(f"pgwal: transactions in progress take {error}: raise --transaction-limit. Nothing is lost yet.")
        return 1
    except (replication.Unusable, psycopg.ProgrammingError) as error:
        shipper.say(f"pgwal: {error}")
        return 1
    finally:
        sender.stop()
        reader.catalog.close()
        queue.close()
    return 0


def follow(reader: Reader, *, once: bool) -> None:
    """Stream, and connect again whenever the connection breaks."""
    failures, last_said, text = 0, "", ""
    while True:
        before = reader.received
        try:
            end = prepare(
                reader.wanted, reader.queue, stuck=f'publication "{reader.wanted.publication}" does not' in text
            )
            text = ""
            reader.run(end if once else None)
            while not reader.sender.drain(1.0):
                reader.stop.check()
            return
        except (replication.Disconnected, psycopg.OperationalError) as error:
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if text != last_said:
                shipper.say(f"pgwal: {text}. Nothing is lost: the slot keeps its place. Trying on.")
            last_said = text
            reader.sender.note(reader="disconnected")
        failures = 0 if reader.received > before else failures + 1
        reader.stop.event.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
        reader.stop.check()


if __name__ == "__main__":
    raise SystemExit(main())
