"""The database that the demo watches: Debian's PostgreSQL 15 with pgAudit, or the embedded 18 where that cannot be had.

Its own cluster in its own folder, on TCP with SCRAM, logging what an auditor would have a company's database log.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg

from config import cluster

DEBIAN = Path("/usr/lib/postgresql/15")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",
    "wal_level": "logical",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "max_slot_wal_keep_size": "1GB",
    "logging_collector": "on",
    "log_destination": "csvlog,jsonlog",
    "log_directory": "log",
    "log_filename": "postgresql-%Y%m%d_%H%M%S.log",
    "log_file_mode": "0644",
    "log_rotation_size": "100MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_min_error_statement": "error",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_autovacuum_min_duration": "-1",
}
PGAUDIT = {
    "shared_preload_libraries": "pgaudit",
    "pgaudit.log": "all",
    "pgaudit.log_catalog": "off",
    "pgaudit.log_relation": "on",
    "pgaudit.log_rows": "on",
    "pgaudit.log_parameter": "on",
}
WITHOUT_PGAUDIT = {"log_statement": "all"}


class Monitored:
    """One monitored cluster under `root`, on 127.0.0.1 and `port` (0: a free one). `settings` override the above.

    `superuser_password` opens the role postgres; other roles are made by whoever uses it.
    """

    def __init__(self, root: Path, port: int = 0, settings: dict[str, str] | None = None) -> None:
        self.root = root
        self.port = port or free_port()
        self.settings = settings or {}
        self.process: subprocess.Popen[bytes] | None = None
        self.user = _user()
        self.home = _reachable_home(root, self.user)
        self.data = self.home / "data"
        self.has_pgaudit = (DEBIAN / "lib/pgaudit.so").exists() and (DEBIAN / "bin/postgres").exists()
        self.programs = DEBIAN / "bin" if self.has_pgaudit else cluster.reachable_programs(self.user)
        self._password_file = root / "superuser.password"
        self.log_dir = self.data / "log"

    @property
    def superuser_password(self) -> str:
        return self._password_file.read_text()

    def dsn(self, user: str = "postgres", password: str | None = None, dbname: str = "postgres") -> str:
        """A connection string; the superuser's password is filled in when none is given."""
        secret = self.superuser_password if password is None and user == "postgres" else password
        parts = {"host": "127.0.0.1", "port": str(self.port), "user": user, "password": secret, "dbname": dbname}
        return psycopg.conninfo.make_conninfo("", **{k: v for k, v in parts.items() if v is not None})

    def start(self) -> None:
        """Make the cluster when it is missing, start it, return when it answers. RuntimeError says what failed."""
        if not (self.data / "PG_VERSION").exists():
            self._init()
        self._write_settings()
        cluster.kill_orphans(self.data)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        with open(self.home / "start.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=cluster.die_with_parent,
                **cluster.process_options(self.user),
            )
        self._wait()

    def stop(self) -> None:
        """Fast shutdown."""
        if self.process is not None and self.process.poll() is None:
            cluster.stop_process(self.process, 30)
        self.process = None

    def kill9(self) -> None:
        """SIGKILL the postmaster and what it leaves behind, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        cluster.kill_orphans(self.data)
        self.process = None

    def remove(self) -> None:
        """Stop, and delete everything that belongs to this cluster."""
        self.stop()
        elsewhere = self.home.parent != self.root
        shutil.rmtree(self.home.parent if elsewhere else self.home, ignore_errors=True)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """An autocommit connection as superuser."""
        return psycopg.connect(self.dsn(dbname=dbname), autocommit=True)

    def _init(self) -> None:
        draft = self.home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password = secrets.token_urlsafe(18)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(password)
        shared = draft.with_suffix(".password")
        shared.touch(mode=0o600)
        shared.write_text(password)
        if self.user is not None:
            for path in (draft, shared):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [self.programs / "initdb", "-D", draft, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
             "--auth=scram-sha-256", f"--pwfile={shared}", "--no-instructions"],
            check=False, capture_output=True, **cluster.process_options(self.user),
        )  # fmt: skip
        shared.unlink()
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')[-800:]}")
        with open(draft / "postgresql.conf", "a") as conf:
            conf.write("\ninclude 'monitored.conf'\n")
        draft.rename(self.data)

    def _write_settings(self) -> None:
        chosen = {**SETTINGS, **(PGAUDIT if self.has_pgaudit else WITHOUT_PGAUDIT), **self.settings}
        sockets = cluster.socket_folder(self.home)
        cluster.own_folder(sockets, self.user)
        chosen |= {"port": str(self.port), "unix_socket_directories": str(sockets)}
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in chosen.items()]
        path = self.data / "monitored.conf"
        path.write_text("\n".join(lines) + "\n")
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the monitored database ended at its start; {self.home / 'start.log'} says why")
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise RuntimeError("the monitored database did not answer within two minutes")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return cluster.server_user()


def _reachable_home(root: Path, user: pwd.struct_passwd | None) -> Path:
    """Where the cluster lies: under `root`, or elsewhere when root's server user cannot reach it; made when missing."""
    root.mkdir(parents=True, exist_ok=True)
    home = cluster.choose_home(root, user) / "monitored"
    if not home.exists():
        home.mkdir(mode=0o700)
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
    return home
