"""A few records in the place of all: `activity` and `touches` of one cursor, as views over what look-ups have read."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from lineage import resolving
from lineage.extracts import Cursor, Indexes, naming
from lineage.extracts.looking import Lookup

VIEWS = ("activity", "touches")


def begin(cursor: Cursor, look: Lookup, indexes: Indexes, identities: pa.Table, conflicted: pa.Table) -> None:
    """From here on there are only these records, until `end`."""
    contents = look.contents(indexes)
    logins = logins_of(look, identities, [row[0] for row in contents])
    among = pc.is_in(conflicted["index"], pa.array(indexes, pa.int64()))
    tables = naming.tables(look.columns, contents, logins, set(conflicted.filter(among)["index"].to_pylist()))
    for name, table in zip(VIEWS, tables, strict=True):
        cursor.register(f"few_{name}", table)
        cursor.execute(
            f"create or replace temp view {name} as select n.*, {resolving.TAGS_OF} as tags from few_{name} n"  # noqa: S608
        )


def end(cursor: Cursor) -> None:
    for name in VIEWS:
        cursor.execute(f"drop view if exists temp.{name}; drop view if exists temp.few_{name}")


def logins_of(look: Lookup, identities: pa.Table, rows: list[list[object]]) -> list[dict[str, object]]:
    """Whose logins those of these records are."""
    user = look.columns.index("db_user")
    names = pa.array(sorted({str(row[user]) for row in rows if row[user] is not None}), pa.string())
    found: list[dict[str, object]] = identities.filter(pc.is_in(identities["db_user"], names)).to_pylist()
    return found
