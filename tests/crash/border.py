"""Faults where the product meets the operating system and the database, and nowhere else.

`Border` counts every call that a process makes on files below its data folder and every exchange with PostgreSQL, and
at one of them does what a machine can do:

    kill       the call takes effect, then the process is gone (SIGKILL)
    power      as kill, and what was never fsynced is gone too: bytes, names, renames
    done       the call takes effect and is reported as failed (EIO; from the database: connection lost)
    refused    the call takes no effect and is reported as failed (ENOSPC; from the database: disk full)
    short      a write takes half its bytes, then the disk is full
    lost       the connection is ended by the server before the statement
    stall      (on request) the connection is ended and the process sleeps; then the call is made as if nothing were

A kill just before a call is the kill just after the one before it: nothing reaches disk or database in between.
Parquet is written by a library's own C code: there a whole file is one call.
"""

from __future__ import annotations

import _io
import builtins
import contextlib
import errno
import functools
import io
import os
import re
import shutil
import signal
import stat
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pyarrow.parquet as pq

FILE_EFFECTS = (
    "mkdir rename replace link symlink unlink remove rmdir truncate ftruncate chmod fsync fdatasync write sendfile"
).split()
EFFECT_KINDS = {
    "file": ("kill", "power", "done", "refused"),
    "write": ("kill", "power", "done", "refused", "short"),
    "database": ("kill", "power", "done", "refused", "lost"),
}
STALL_SECONDS = 0.5
READ_KINDS = {"file": ("refused",), "write": (), "database": ("lost",)}
# What only reads, or ends with the transaction or the connection: these, and a select that calls none of those.
PASSING = ("select", "with", "set ", "savepoint", "release", "rollback to", "show")
LASTING = re.compile(r"\b(ledger_(?!sealed_to\b)\w+|nextval|set_config|pg_switch_wal) ?\(")

_real = {name: getattr(os, name) for name in (*FILE_EFFECTS, "open")}
# The power that is cut here is `Disk`'s: nothing need wait for the machine's own disk.
_real["fsync"] = _real["fdatasync"] = os.fsync = os.fdatasync = lambda handle: None  # type: ignore[assignment]
_real_open, _real_wait, _real_connect = io.open, psycopg.Connection.wait, psycopg.Connection.connect
_real_write_table, _real_read_table = pq.write_table, pq.read_table


class Call:
    """One call at the border: `where` file, write or database; `name` what it was; whether it changes anything."""

    def __init__(self, where: str, name: str, effect: bool) -> None:
        self.where, self.name, self.effect = where, name, effect
        self.pending = False

    def kinds(self) -> tuple[str, ...]:
        """The faults that make a difference here."""
        found = (EFFECT_KINDS if self.effect else READ_KINDS)[self.where]
        # A statement inside a transaction is nothing yet: done and lost is the same as never arrived.
        return tuple(kind for kind in found if not self.pending or kind not in ("power", "done"))


class Border:
    """Put up once in a process, before it opens or connects anything."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.calls: list[Call] | None = None
        self.name, self.number, self.kind = "", 0, ""
        self.disk = Disk(self.root)
        self.backend = 0
        self._put_up()

    def arm(self, name: str = "", number: int = 0, kind: str = "") -> None:
        """Counts from now on; the call of this name and number (of those of one name) gets the fault, once."""
        self.calls, self.name, self.number, self.kind = [], name, number, kind

    def disarm(self) -> list[Call]:
        calls, self.calls = self.calls or [], None
        return calls

    @property
    def hit(self) -> bool:
        """Whether the fault has happened."""
        return not self.kind

    def meet(self, call: Call) -> str:
        """The fault for this call, or nothing."""
        if self.calls is None:
            return ""
        self.calls.append(call)
        if call.name != self.name or sum(each.name == self.name for each in self.calls) - 1 != self.number:
            return ""
        kind, self.kind = self.kind, ""
        return kind

    def die(self, kind: str) -> NoReturn:
        self.calls = None
        if kind == "power":
            self.disk.lose()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive")

    def path(self, place: Any, folder: int | None = None) -> str | None:
        """The path of a name or handle below the data folder, else None."""
        with contextlib.suppress(OSError, TypeError):
            if isinstance(place, int):
                found = os.readlink(f"/proc/self/fd/{place}")
            else:
                found = os.fsdecode(place)
                if folder is not None:
                    found = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), found)
                found = os.path.abspath(found)
            if found.startswith(self.root + "/") or found == self.root:
                return found
        return None

    def _put_up(self) -> None:
        for name in FILE_EFFECTS:
            setattr(os, name, self._effect(name, _real[name]))
        os.open = self._handle  # type: ignore[assignment]
        io.open = builtins.open = _io.open = self._open  # type: ignore[assignment]
        pq.write_table, pq.read_table = self._write_table, self._read_table
        border = self

        def wait(connection: Any, gen: Any, interval: float = 0.1) -> Any:
            return border._exchange(connection, gen, interval)

        psycopg.Connection.wait = wait  # type: ignore[assignment,method-assign]
        psycopg.connect = psycopg.Connection.connect = self._connect  # type: ignore[assignment,method-assign]

    # files

    def _effect(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(place: Any, *args: Any, **options: Any) -> Any:
            path = self.path(place, options.get("dir_fd"))
            if path is None:
                return real(place, *args, **options)
            target = self.path(args[0]) if name in ("rename", "replace", "link") else None
            effect = name != "mkdir" or not os.path.exists(path)
            with self._file(
                Call("write" if name == "write" else "file", f"{name} {self._named(path)}", effect)
            ) as fault:
                if fault == "short":
                    real(place, args[0][: len(args[0]) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
                return self.disk.do(name, path, target, lambda: real(place, *args, **options))

        return call

    @contextlib.contextmanager
    def _file(self, call: Call) -> Generator[str, None, None]:
        fault = self.meet(call)
        if fault == "refused":
            code = errno.ENOSPC if call.effect else errno.EIO
            raise OSError(code, os.strerror(code), call.name)
        if fault == "stall":
            _end(self.backend)
            time.sleep(STALL_SECONDS)
        yield fault
        if fault in ("kill", "power"):
            self.die(fault)
        if fault == "done":
            raise OSError(errno.EIO, os.strerror(errno.EIO), call.name)

    def _named(self, path: str) -> str:
        """The path as it is in every run: random parts of names are left out."""
        inside = os.path.relpath(path, self.root)
        return re.sub(r"[0-9a-f]{12,}", "*", inside)

    def _handle(self, place: Any, flags: int, *args: Any, **options: Any) -> int:
        path = self.path(place, options.get("dir_fd"))
        if path is None:
            return int(_real["open"](place, flags, *args, **options))
        there = os.path.exists(path)
        name = "create" if flags & os.O_CREAT and not there else "empty" if flags & os.O_TRUNC and there else "open"
        with self._file(Call("file", f"{name} {self._named(path)}", name != "open")):
            real = functools.partial(_real["open"], place, flags, *args, **options)
            return int(self.disk.do(name, path, None, real))

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
        path = self.path(file)
        if path is None or options.get("opener"):
            return _real_open(file, mode, buffering, *args, **options)
        raw_mode = mode.replace("b", "").replace("t", "")
        if isinstance(file, int):
            raw = _File(file, raw_mode, options.pop("closefd", True))
        else:
            new = raw_mode[0] in "wax" and not os.path.exists(path)
            emptied = raw_mode[0] == "w" and not new
            name = "create" if new else "empty" if emptied else "open"
            with self._file(Call("file", f"{name} {self._named(path)}", name != "open")):
                raw = self.disk.do(name, path, None, lambda: _File(file, raw_mode))
        raw.border, raw.place = self, path
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedReader(raw) if "r" in mode else None
        whole = buffered or io.BufferedWriter(raw)
        return whole if "b" in mode else io.TextIOWrapper(whole, *(args or ("utf-8",)), **options)

    def _write_table(self, table: Any, where: Any, *args: Any, **options: Any) -> None:
        path = self.path(where)
        if path is None:
            return _real_write_table(table, where, *args, **options)
        with self._file(Call("write", f"write {self._named(path)}", True)) as fault:
            self.disk.do("create", path, None, lambda: _real_write_table(table, where, *args, **options))
            if fault == "short":
                _real["truncate"](path, os.path.getsize(path) // 2)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _read_table(self, source: Any, *args: Any, **options: Any) -> Any:
        path = self.path(source) if isinstance(source, (str, Path)) else None
        if path is None:
            return _real_read_table(source, *args, **options)
        with self._file(Call("file", f"read {self._named(path)}", False)):
            return _real_read_table(source, *args, **options)

    # database

    def _connect(self, *args: Any, **options: Any) -> Any:
        fault = self.meet(Call("database", "connect", False))
        if fault == "lost":
            raise psycopg.OperationalError("connection failed: the server is not there")
        return _real_connect(*args, **options)

    def _exchange(self, connection: Any, gen: Any, interval: float) -> Any:
        call = _statement(gen) if self.calls is not None else None
        fault = self.meet(call) if call else ""
        if fault == "refused":
            gen.close()
            _disk_full(connection.pgconn)
        if fault == "lost":
            _end(connection.pgconn.backend_pid)
        self.backend = connection.pgconn.backend_pid
        try:
            result = _real_wait(connection, gen, interval)
        except psycopg.Error:
            # The database answered with an error of its own, such as that the journal's part is not open yet.
            if fault in ("kill", "power"):
                self.die(fault)
            raise
        if call:
            call.pending = connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE
        if fault in ("kill", "power"):
            self.die(fault)
        if fault == "done":
            connection.pgconn.finish()
            raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")
        return result


class _File(io.FileIO):
    """A file below the data folder."""

    border: Border
    place: str

    def write(self, data: Any) -> int:
        raw = bytes(data)
        with self.border._file(Call("write", f"write {self.border._named(self.place)}", True)) as fault:
            if fault == "short":
                super().write(raw[: len(raw) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.place)
            return int(self.border.disk.do("write", self.place, None, lambda: super(_File, self).write(raw)))

    def readall(self) -> bytes:
        with self.border._file(Call("file", f"read {self.border._named(self.place)}", False)):
            return super().readall()

    def readinto(self, buffer: Any) -> int:
        with self.border._file(Call("file", f"read {self.border._named(self.place)}", False)):
            return int(super().readinto(buffer) or 0)


class Disk:
    """What would still be there after a power cut: bytes up to the last fsync of the file, names up to the last fsync
    of their folder. What was there before the process began is safe.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.lengths: dict[str, int] = {}
        self.names: dict[str, list[Callable[[], None]]] = {}
        self.kept = 0

    def do(self, name: str, path: str, target: str | None, real: Callable[[], Any]) -> Any:
        """Runs the real call and remembers how to take it back."""
        undo: Callable[[], None] | None = None
        if name in ("create", "mkdir"):
            undo = functools.partial(_remove, path)
        elif (
            name in ("truncate", "ftruncate", "empty", "write", "sendfile")
            and path not in self.lengths
            and os.path.isfile(path)
        ):
            self.lengths[path] = os.path.getsize(path)
        elif name in ("rename", "replace") and target:
            undo = self._renamed(path, target)
        elif name == "link" and target:
            undo = functools.partial(_remove, target)
        result = real()
        if name == "create":
            self.lengths[path] = 0
        if name in ("fsync", "fdatasync"):
            self.lengths.pop(path, None)
            self.names.pop(path, None)
        if undo:
            self.names.setdefault(os.path.dirname(target or path), []).append(undo)
        return result

    def _renamed(self, path: str, target: str) -> Callable[[], None]:
        old = None
        if os.path.isfile(target):
            self.kept += 1
            old = f"{self.root}.kept{self.kept}"
            shutil.copyfile(target, old)
        if path in self.lengths:
            self.lengths[target] = self.lengths.pop(path)

        def undo() -> None:
            _real["rename"](target, path)
            if old:
                _real["rename"](old, target)

        return undo

    def lose(self) -> None:
        for path, length in self.lengths.items():
            with contextlib.suppress(FileNotFoundError):
                if os.path.getsize(path) > length:
                    _real["truncate"](path, length)
        for undone in self.names.values():
            for undo in reversed(undone):
                with contextlib.suppress(FileNotFoundError):
                    undo()


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        _real["unlink"](path)


def _statement(gen: Any) -> Call | None:
    """The exchange that a generator of psycopg is about to make; None for those that send nothing."""
    name = getattr(gen, "__name__", type(gen).__name__)
    if name.startswith("_set_"):
        return None
    if name != "_execute_gen":
        return Call("database", name.strip("_").removesuffix("_gen"), name != "_rollback_gen")
    query = gen.gi_frame.f_locals["query"]
    text = " ".join((query.decode() if isinstance(query, bytes) else str(query)).split())
    # Django names a savepoint after its thread.
    text = re.sub(r"\bs\d+_x\d+\b", "s*", text)
    passes = text.lower().startswith(PASSING) and not LASTING.search(text)
    return Call("database", text[:60], not passes)


def _disk_full(pgconn: Any) -> NoReturn:
    """What PostgreSQL does when it cannot extend a file: the statement fails and the transaction with it."""
    if pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
        pgconn.put_copy_end(b"disk full")
        while pgconn.get_result():
            pass
    else:
        pgconn.exec_(b"do $$ begin raise exception 'disk full' using errcode = '53100'; end $$")
    raise psycopg.errors.DiskFull("could not extend file: No space left on device")


def _end(backend: int) -> None:
    """Ends one server process as an administrator does, and waits until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(backend, signal.SIGTERM)
        for _ in range(5000):
            os.kill(backend, 0)
            time.sleep(0.001)
