"""The recorder: nothing is forwarded before it stands on the gateway's own disk, and nothing that stands there is lost.

Two queues of `enforcement.spool`. `inflight` says of each statement that it begins, and that it is done; the spool holds
the events for the store. What was in flight when the gateway died becomes an event at its next start, flag `answer_lost`.

- A line of `inflight` is written before the statement is forwarded. Killing the gateway loses none; a power cut those of
  the last `sync_seconds`, which is how often both queues are made durable, for all sessions at once.
- What `inflight` does not say to be done may stand in the spool nevertheless: the next start looks, and doubles nothing.
- "Done" names the event's sequence number: where the disk lost the event itself, it does not count.
"""

from __future__ import annotations

import collections
import threading
import time
from pathlib import Path

import msgspec

from enforcement import shipper
from enforcement import spool as spools
from enforcement.gateway import events
from enforcement.gateway.entries import Began, Ended, Refused, SessionBegan, SessionEnded, SessionFailed, Told
from enforcement.spool import Spool
from lineage.events import Event, decode_event

COMPACT_BYTES = 32 << 20
WAITING_LIMIT = 10_000
SENTENCE = "This was not run, because the gateway cannot write it down now. Tell whoever runs the gateway."


class Unrecorded(Exception):
    """What is about to happen cannot be written down. `reason` is for the operator."""

    def __init__(self, reason: str) -> None:
        self.sentence, self.reason = SENTENCE, reason
        super().__init__(f"{SENTENCE} {reason}")


class Line(msgspec.Struct):
    """One line of `inflight`: `began` with its event, or `done` with the sequence number that its event has in the spool."""

    began: str = ""
    event: msgspec.Raw = msgspec.Raw(b"")
    done: tuple[str, ...] = ()
    at: int = 0


class Spooled(msgspec.Struct):
    """One line of the spool; `position` is the name under which `inflight` knows it."""

    position: str = ""


_encode = msgspec.json.encode
_line = msgspec.json.Decoder(Line).decode
_spooled = msgspec.json.Decoder(Spooled).decode


class Recorder:
    """Writes entries down. Thread-safe; `record` does not wait for the disk's fsync. `problem` is empty or says what is wrong.

    It opens `inflight` in `folder`, takes care of what the last run left there, and syncs `spool`, which stays the caller's.
    """

    def __init__(self, folder: Path, spool: Spool, *, sync_seconds: float = 0.2) -> None:
        """spools.SpoolError when `inflight` is in use or damaged."""
        self.spool = spool
        self.problem = ""
        self._inflight = Spool(folder / "inflight")
        self._lock = threading.RLock()
        self._open: dict[str, tuple[Event, bytes]] = {}
        self._unmarked: list[str] = []
        self._waiting: collections.deque[tuple[str, Event]] = collections.deque()
        self._dropped = 0
        self._recover()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sync_seconds,), name="recorder", daemon=True)
        self._thread.start()

    def record(self, entry: Told) -> None:
        """Write one entry. Unrecorded for a Began or SessionBegan that cannot be written: it must not go on.

        Everything else has happened already: what the disk does not take is kept and written as soon as it does.
        """
        with self._lock:
            match entry:
                case Began():
                    self._begin(entry.id, events.asked(entry))
                case Ended():
                    event, _ = self._open.get(entry.began.id) or (events.late(events.asked(entry.began)), b"")
                    self._tell(entry.began.id, events.answered(event, entry))
                case Refused():
                    self._tell(entry.began.id, events.refused(entry))
                case SessionBegan():
                    self._begin(f"{entry.session.session_id}.end", events.session_stopped(entry.session))
                    self._tell(f"{entry.session.session_id}.start", events.session_began(entry))
                case SessionEnded():
                    self._tell(f"{entry.session.session_id}.end", events.session_ended(entry))
                case SessionFailed():
                    self._tell(f"{entry.session.session_id}.failed", events.session_failed(entry))

    def close(self) -> None:
        """Make everything durable and give the folder free."""
        self._stopping.set()
        self._thread.join()
        self._sync()
        self._inflight.close()

    def _begin(self, name: str, event: Event) -> None:
        reason = self.problem or self._full()
        if reason:
            raise Unrecorded(reason)
        told = events.encode(event)
        try:
            self._inflight.append([_began(name, told)])
        except OSError as error:
            raise Unrecorded(f"{self._inflight.folder}: {error.strerror}.") from None
        self._open[name] = event, told

    def _full(self) -> str:
        for queue in (self.spool, self._inflight):
            if not queue.has_room():
                return f"{queue.folder} is full: the store has not taken anything for long."
        return ""

    def _tell(self, name: str, event: Event) -> None:
        """Put an event into the spool, or keep it; in the order in which they came."""
        if self._waiting or not self._write(name, event):
            if len(self._waiting) < WAITING_LIMIT or name in self._open:
                self._waiting.append((name, event))
            else:
                self._dropped += 1

    def _write(self, name: str, event: Event) -> bool:
        try:
            sequence = self.spool.append([shipper.item(name, events.encode(event))])
        except OSError as error:
            self.problem = f"{self.spool.folder}: {error.strerror}."
            return False
        if self._open.pop(name, None) is not None:
            self._unmarked.append(name)
            self._mark(sequence)
        return True

    def _mark(self, sequence: int) -> bool:
        """Say that what is not said yet is done: the spool has it, up to `sequence`. False where the disk did not take it."""
        if not self._unmarked:
            return True
        try:
            self._inflight.append([b'"done":%b,"at":%d' % (_encode(self._unmarked), sequence)])
        except OSError as error:
            self.problem = f"{self._inflight.folder}: {error.strerror}."
            return False
        self._unmarked.clear()
        return True

    def _run(self, sync_seconds: float) -> None:
        while not self._stopping.wait(sync_seconds):
            try:
                self._sync()
            except Exception as error:  # noqa: BLE001  whatever it was: without this thread nothing becomes durable
                self._stopping.set()
                self._fail(f"recorder: {type(error).__name__}: {error}. Start the gateway again.")

    def _fail(self, problem: str) -> None:
        """From here on nothing begins, until the next start."""
        self.problem = problem
        shipper.say(f"recorder: {problem}")

    def _sync(self) -> None:
        try:
            # The events first: a line that says "done" must not outlive its event.
            self.spool.sync()
            self._inflight.sync()
        except OSError as error:
            # After a failed fsync nobody knows what is on the disk: no later success takes this back.
            self._stopping.set()
            self._fail(f"{self.spool.folder}: {error.strerror}. Look at the disk, then start the gateway again.")
            return
        with self._lock:
            self._catch_up()
            mark = self._rewrite()
        if mark:
            self._inflight.sync()
            self._inflight.acknowledge(mark)

    def _catch_up(self) -> None:
        """Write what the disk did not take before."""
        if not self.problem:
            return
        while self._waiting:
            name, event = self._waiting[0]
            if not self._write(name, events.late(event)):
                return
            self._waiting.popleft()
        if self._dropped and not self._say_dropped():
            return
        if self._mark(self.spool.last):
            self.problem = ""

    def _say_dropped(self) -> bool:
        detail = "The gateway's disk was full for so long that these refusals and failed sign-ins were not kept."
        try:
            self.spool.append([shipper.custody_item("gap", "recorder", detail, count=self._dropped)])
        except OSError:
            return False
        self._dropped = 0
        return True

    def _rewrite(self) -> int:
        """Where `inflight` grew long, say again what is open; up to where the older lines can then go."""
        size = sum(segment.size for segment in self._inflight.segments)
        if self.problem or len(self._inflight.segments) == 1:
            return 0
        if size < COMPACT_BYTES + 4 * sum(len(told) for _, told in self._open.values()):
            return 0
        mark = self._inflight.last
        try:
            self._inflight.append([_began(name, told) for name, (_, told) in self._open.items()])
        except OSError as error:
            self.problem = f"{self._inflight.folder}: {error.strerror}."
            return 0
        return mark

    def _recover(self) -> None:
        """What the last run left in flight becomes events."""
        found: dict[str, msgspec.Raw] = {}
        for segment in self._inflight.segments:
            end = 0
            for frame, end in spools.frames(segment.path):  # noqa: B007  where the last whole frame ends
                self._read(frame, found)
            if end < segment.path.stat().st_size:
                detail = (
                    f"{segment.path.name} of the gateway's list of running statements is damaged behind byte {end}."
                )
                self.spool.append([shipper.custody_item("gap", "recorder", detail)])
        self._leave_out_spooled(found)
        at = time.time()
        for name, told in found.items():
            self._open[name] = decode_event(told), bytes(told)
            self._tell(name, events.lost(self._open[name][0], at))
        if found:
            shipper.say(f"recorder: {len(found)} statements and sessions of the last run had not ended; told as such.")
        self.spool.sync()
        self._inflight.sync()
        if not self._open:
            self._inflight.acknowledge(self._inflight.last)

    def _read(self, frame: spools.Frame, found: dict[str, msgspec.Raw]) -> None:
        for text in frame.lines:
            line = _line(text)
            if line.began:
                found[line.began] = line.event
            elif line.at <= self.spool.last:
                for name in line.done:
                    found.pop(name, None)

    def _leave_out_spooled(self, found: dict[str, msgspec.Raw]) -> None:
        """Forget what was told, though the line that says so was lost."""
        for segment in self.spool.segments if found else ():
            for frame, _ in spools.frames(segment.path):
                for text in frame.lines:
                    found.pop(_spooled(text).position, None)


def _began(name: str, told: bytes) -> bytes:
    return b'"began":%b,"event":%b' % (_encode(name), told)
