"""The two peers: the ClickHouse engine in this machine's memory and files (`chdb`), and PostgreSQL. And what they are loaded with.

Both hold two tables of the joined records: `events`, with every column that ours answers with, and `touches`, one row for each
record × table × row. ClickHouse has projections by actor and session and a text index; PostgreSQL an index for each lookup.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._questions import Drawn, Question, literals
from demo.monitored import Monitored

SLICE = 1_000_000
"""So many records are joined and written at once."""
TABLES = ("events", "touches")
BYTES = {
    ("lean", "ClickHouse"): 900, ("lean", "PostgreSQL"): 2_000, ("full", "ClickHouse"): 6_000, ("full", "PostgreSQL"): 9_000,
}  # fmt: skip
"""What a record takes in a peer at most, while it is loaded and merged."""
FEW = frozenset(
    "kind class op command occurred_at_quality environment source source_format datasource database db_system who_id who_name "
    "who_email who_type on_behalf_of agent_id agent_name db_user attribution client_app client_ip outcome verdict "
    "relations_provenance error_code statement_state session_phase relation access touch_op provenance decision_type".split()
)
"""Columns with few values, which ClickHouse keeps as numbers."""
POSTGRES = {
    "shared_preload_libraries": "", "logging_collector": "off", "log_destination": "stderr", "log_connections": "off",
    "log_disconnections": "off", "wal_level": "minimal", "max_wal_senders": "0", "max_replication_slots": "0",
    "shared_buffers": "2GB", "effective_cache_size": "12GB", "work_mem": "64MB", "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB", "random_page_cost": "1.1",
}  # fmt: skip
INDEXES = (
    "create index on touches (datasource, relation, key, occurred_at desc)",
    "create index on touches (datasource, relation, occurred_at desc)",
    "create index on touches (who_id, occurred_at)",
    'create unique index on events ("index")',
    "create index on events (who_id, occurred_at)",
    "create index on events (session, occurred_at)",
    "create index on events (occurred_at)",
    "create extension if not exists pg_trgm",
    "create index on events using gin (statement gin_trgm_ops)",
    "vacuum analyze events",
    "vacuum analyze touches",
)


def folder(data: Path) -> Path:
    return data / "peers"


def export(data: Path) -> int:
    """Writes the joined records as Parquet for the peers, unless all but the store's own are there; returns the log's size then.

    What a store records of itself (that it was read, say) is in no lookup's answer.
    """
    from lineage.engine import Question as Asked
    from lineage.snapshots import OWN

    place = folder(data)
    done = place / "exported.json"
    held = int(msgspec.json.decode(done.read_bytes())) if done.exists() else 0
    with Asked(joined=False) as asked:
        size = asked.size
        newer = asked.rows("select count(*) as n from raw_events where index >= ? and source <> ?", [held, OWN])[0]["n"]
    if held and not newer:
        return held
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o711)
    with contextlib.ExitStack() as files:
        writers: dict[str, Any] = {}
        for first in range(0, size, SLICE):
            with Asked(as_of=size) as asked:
                for name, view in (("events", "activity"), ("touches", "touches")):
                    within = f'"index" >= {first} and "index" < {first + SLICE}'
                    for batch in asked.batches(f"select {_selected(name)} from {view} where {within}"):
                        if name not in writers:
                            writer = pq.ParquetWriter(place / f"{name}.parquet", batch.schema, compression="zstd")
                            writers[name] = files.enter_context(writer)
                        writers[name].write_batch(batch)
    done.write_bytes(msgspec.json.encode(size))
    return size


def _selected(name: str) -> str:
    """Of a touch what a list of them shows: the statement is the event's."""
    if name == "events":
        return "*"
    return (
        '"index", occurred_at, environment, datasource, who_id, who_name, who_type, on_behalf_of, agent_id, agent_name, '
        "verdict, op, touch_op, session, ticket, purpose, attribution, transaction_id, outcome, relation, key, key_columns, "
        "columns, access, provenance"
    )


class ClickHouse:
    """The ClickHouse engine in this process, over files in the store's folder. One process at a time."""

    name = "ClickHouse"

    def __init__(self, data: Path) -> None:
        from chdb import session

        self.data = data
        self.session: Any = session.Session(str(folder(data) / "clickhouse"))

    def close(self) -> None:
        self.session.close()

    def ask(self, question: Question, drawn: Drawn) -> int:
        values = literals(
            drawn, question, lambda text: f"toDateTime64('{text}', 6, 'UTC')", "hasAny(columns, [{column}, '*'])"
        )
        answer: dict[str, Any] = {}
        for statement in question.statements:
            answer = self.json(statement.format(**values))
        return int(answer["data"][0][0]) if question.is_total else int(answer["rows"])

    def json(self, statement: str) -> Any:
        return msgspec.json.decode(self.session.query(statement, "JSONCompact").bytes())

    def load(self) -> None:
        for name in TABLES:
            path = folder(self.data) / f"{name}.parquet"
            self.session.query(f"create table {name} ({_columns(name, pq.read_schema(path))}) {_engine(name)}")
            self.session.query(f"insert into {name} select * from file('{path}', Parquet)")
            self.session.query(f"optimize table {name} final")

    def sizes(self) -> dict[str, int]:
        """Bytes of the two tables and of their projections and indexes."""
        tables = "select name, total_bytes from system.tables where database = currentDatabase() and name in ('events', 'touches')"
        both = {name: int(size) for name, size in self.json(tables)["data"]}
        parts = "select table, sum(bytes_on_disk) from system.projection_parts where active group by table"
        more = {name: int(size) for name, size in self.json(parts)["data"]}
        return {f"{name}": both[name] - more.get(name, 0) for name in TABLES} | {
            f"projections of {name}": more.get(name, 0) for name in TABLES
        }


def _columns(name: str, schema: pa.Schema) -> str:
    columns = [f'"{field.name}" {_type(field)}' for field in schema]
    if name == "events":
        columns += [
            "projection by_actor (select * order by who_id, occurred_at)",
            "projection by_session (select * order by session, occurred_at)",
            "index words statement type ngrambf_v1(4, 32768, 3, 0) granularity 1",
        ]
    else:
        columns.append("projection by_actor (select * order by who_id, occurred_at)")
    return ", ".join(columns)


def _type(field: pa.Field) -> str:
    kind = field.type
    if pa.types.is_timestamp(kind):
        return "DateTime64(6, 'UTC') codec(DoubleDelta, ZSTD(3))"
    if pa.types.is_list(kind):
        return "Array(String) codec(ZSTD(3))" if field.name.endswith("_values") else "Array(LowCardinality(String))"
    if pa.types.is_integer(kind):
        return "Int64 codec(Delta, ZSTD(3))"
    if pa.types.is_boolean(kind):
        return "Bool"
    return "LowCardinality(String)" if field.name in FEW else "String codec(ZSTD(3))"


def _engine(name: str) -> str:
    """Without partitions, which would make a lookup by actor or session look into each; with small granules for few rows."""
    order = '(occurred_at, "index")' if name == "events" else "(datasource, relation, key, occurred_at)"
    return f"engine = MergeTree order by {order} settings index_granularity = 2048"


class PostgreSQL:
    """Debian's PostgreSQL 15 where it is installed, else the embedded one (without an index over texts)."""

    name = "PostgreSQL"

    def __init__(self, data: Path) -> None:
        self.data = data
        self.server = Monitored(folder(data) / "postgresql", settings=POSTGRES)
        self.server.start()
        self.connection: psycopg.Connection[Any] = self.server.connect()

    def close(self) -> None:
        self.connection.close()
        self.server.stop()

    def ask(self, question: Question, drawn: Drawn) -> int:
        values = literals(drawn, question, lambda text: f"timestamptz '{text}+00'", "columns && array[{column}, '*']")
        rows: list[Any] = []
        for statement in question.statements:
            rows = self.connection.execute(statement.format(**values).encode()).fetchall()
        return int(rows[0][0]) if question.is_total else len(rows)

    def load(self) -> None:
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(self.server.dsn()) as loading:
            for name in TABLES:
                file = pq.ParquetFile(folder(self.data) / f"{name}.parquet")
                reader = pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(20_000))
                with loading.cursor() as cursor:
                    cursor.adbc_ingest(name, reader, mode="create")
            loading.commit()
        for statement in INDEXES:
            if "trgm" in statement and not self.has_trigrams():
                continue
            self.connection.execute(statement.encode())

    def has_trigrams(self) -> bool:
        found = self.connection.execute("select 1 from pg_available_extensions where name = 'pg_trgm'").fetchone()
        return found is not None

    def sizes(self) -> dict[str, int]:
        """Bytes of the two tables and of their indexes."""
        found: dict[str, int] = {}
        for part, measure in (("", "pg_table_size"), ("indexes of ", "pg_indexes_size")):
            for name in TABLES:
                row = self.connection.execute(f"select {measure}('{name}')".encode()).fetchone()
                found[f"{part}{name}"] = int(row[0]) if row else 0
        return found


PEERS: dict[str, type[ClickHouse] | type[PostgreSQL]] = {"ClickHouse": ClickHouse, "PostgreSQL": PostgreSQL}


def loaded(data: Path, name: str) -> None:
    """Loads the peer with what was exported, unless it has it."""
    done = folder(data) / f"{name}.loaded"
    if done.exists():
        return
    shutil.rmtree(folder(data) / name.lower(), ignore_errors=True)
    with contextlib.closing(PEERS[name](data)) as peer:
        peer.load()
    done.touch()


def forget(place: Path) -> None:
    """The system's memory of these files goes, as far as it can without harm to others: the next read is from the disk."""
    for path in place.rglob("*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
