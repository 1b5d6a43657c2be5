"""Acts, and the tests that look at each act by itself, asked of some records at a time: memory does not grow with the period.

What `acts.sql` says of an act follows from its records and from what else their transactions did. So the acts are put in the
order in which they are answered and cut into runs; a part is what the acts of one run follow from, and gives those alone.
The files are the same as if all had been asked at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lineage import engine, spare
from lineage.spare import Given
from reports import meanwhile
from reports.controls import Table, Test

RECORDS = 60_000
"""So many records of the population a part has of its own, one act more or less."""
ACTS = "acts"
BY_ACT = frozenset(
    {
        "agent-acts",
        "direct-data-changes",
        "privileged-access",
        "schema-and-rights-changes",
        "sensitive-data-access",
    }
)
"""Tests of which an item is an act, and what they say of it follows from its line of `acts`, its records and other tables."""
PLACED = """
with record as (
    select index, occurred_at, datasource, environment, transaction_id,
           case when kind = 'query' then coalesce(correlation_id, event_id)
                else 'transaction ' || coalesce(transaction_id, event_id) end as act
    from population
),
run as (
    select datasource, environment, act,
           ((sum(count(*)) over (order by min(occurred_at), min(index)) - 1) // {records})::int as own
    from record group by all
),
placed as (
    select r.index, r.datasource, r.transaction_id, run.own
    from record r join run on run.act = r.act and run.datasource is not distinct from r.datasource
        and run.environment is not distinct from r.environment
),
wide as (
    select datasource, transaction_id, min(own) as first, max(own) as last
    from placed where transaction_id is not null group by all having first < last
)
select index, own, coalesce(first, own) as first, coalesce(last, own) as last
from placed left join wide using (datasource, transaction_id) order by index
"""
"""In which part each record's act is told (`own`), and in which parts the record is read: its transaction's acts may lie in several."""


Lines: TypeAlias = npt.NDArray[np.int64]
"""Places of rows in a file."""


class Part(NamedTuple):
    """`population`: the records to ask of; `own`: the indexes of those whose acts this part tells."""

    population: pa.Table
    own: pa.Array


def wanted(table: Table, tables: Mapping[str, Path]) -> bool:
    """Whether this derived table is asked in parts: it is `acts`, over more records than a part has."""
    return table.id == ACTS and pq.read_metadata(tables["population"]).num_rows > RECORDS


def of(path: Path) -> Iterator[Part]:
    """The parts of a frozen population, in the order of their acts."""
    placed = engine.over({"population": path}, PLACED.format(records=RECORDS), on_all_cores=True)
    # To put all records in order takes more than to ask of some.
    spare.release()
    index, own, first, last = (placed[name].to_numpy() for name in ("index", "own", "first", "last"))
    with pq.ParquetFile(path) as file:
        # The lines of the file in the order of their indexes.
        lines = np.argsort(file.read(columns=["index"])["index"].to_numpy(), kind="stable")
        ends = np.cumsum([file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)])
        for number in np.unique(own).tolist():
            wanted = np.sort(lines[(first <= number) & (last >= number)])
            yield Part(_taken(file, ends, wanted), pa.array(index[own == number]))


def _taken(file: pq.ParquetFile, ends: Lines, wanted: Lines) -> pa.Table:
    """These lines of the file, ascending; only row groups that have one are read."""
    found = []
    for number, lines in zip(*_grouped(ends, wanted), strict=True):
        begin = int(ends[number - 1]) if number else 0
        found.append(file.read_row_group(number).take(pa.array(lines - begin)))
    return pa.concat_tables(found)


def _grouped(ends: Lines, wanted: Lines) -> tuple[list[int], list[Lines]]:
    """The row groups that have some of these lines, and which each has."""
    groups, begins = np.unique(np.searchsorted(ends, wanted, side="right"), return_index=True)
    return groups.tolist(), np.split(wanted, begins[1:])


def write(tables: Mapping[str, Path], acts: Table, tests: Sequence[Test], paths: Mapping[str, Path]) -> None:
    """Writes `acts` and the answers of these tests (of `BY_ACT`) to the `paths` by id, from the frozen `tables`."""
    with contextlib.ExitStack() as open_files:
        files = {name: open_files.enter_context(Growing(path)) for name, path in paths.items()}

        def add(answers: Mapping[str, pa.Table]) -> None:
            for name, answer in answers.items():
                files[name].add(answer)

        # While one part is asked of, the next is read and the answers of the one before are written.
        hand = open_files.enter_context(meanwhile.behind(add))
        for part in meanwhile.ahead(of(tables["population"])):
            given: dict[str, Given] = {**tables, "population": part.population}
            told = _asked(acts, given)
            given[acts.id] = told = told.filter(pc.is_in(told["first_index"], part.own))
            hand({acts.id: told} | {test.id: _asked(test, given) for test in tests})


def _asked(file: Table | Test, given: Mapping[str, Given]) -> pa.Table:
    """What its SQL answers over one part."""
    return pa.Table.from_batches(engine.batches_over({name: given[name] for name in file.tables}, file.sql))


class Growing:
    """A Parquet file that is written as its rows come, in row groups as `reports.evidence.write_batches` makes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: pq.ParquetWriter | None = None
        self.waiting: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        self.waiting = rows if self.waiting is None else pa.concat_tables([self.waiting, rows])
        while self.waiting.num_rows >= engine.BATCH_ROWS:
            self._write(self.waiting.slice(0, engine.BATCH_ROWS))
            self.waiting = self.waiting.slice(engine.BATCH_ROWS)

    def _write(self, rows: pa.Table) -> None:
        if self.file is None:
            self.file = pq.ParquetWriter(self.path, rows.schema, compression="zstd")
        if rows.num_rows:
            self.file.write_table(rows.combine_chunks())

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *_: object) -> None:
        if self.waiting is not None:
            self._write(self.waiting)
        if self.file is not None:
            self.file.close()
