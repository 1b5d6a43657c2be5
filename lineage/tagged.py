"""Which tables have columns of which classes: what people gave (tags) before what gateways found in their catalogs."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa

PLACES = pa.schema([("place", pa.string()), ("tags", pa.list_(pa.string()))])
COLUMNS = """
with found as (
    select distinct on (1, 2, 3) b.datasource, r ->> 'schema' || '.' || (r ->> 'name') as relation, c ->> 'name' as "column",
           coalesce(c -> 'classes', '[]') as classes
    from lineage_declaredcatalog d join lineage_gatewaydatabase b on b.id = d.database_id,
         jsonb_array_elements(d.relations) r, jsonb_array_elements(coalesce(r -> 'columns', '[]')) c
    order by 1, 2, 3, d.at desc)
select coalesce(t.datasource, f.datasource) as datasource, coalesce(t.relation, f.relation) as relation,
       coalesce(t.column, f.column) as "column", coalesce(to_jsonb(t.classes), f.classes) as classes,
       t.by, t.at
from lineage_tag t full join found f on f.datasource = t.datasource and f.relation = t.relation and f.column = t.column
"""
"""Every column that somebody or something classified; `by` is null where a gateway did. No class: it has none."""


def places(cursor: psycopg.Cursor[Any]) -> pa.Table:
    """`datasource schema.table`, and the bare name that a statement may have used, each with the classes of its columns."""
    cursor.execute(
        "select datasource || ' ' || name, array_agg(distinct class order by class) from "  # noqa: S608 - our own words
        f"({COLUMNS}) c, jsonb_array_elements_text(classes) as class, "
        "unnest(array[relation, split_part(relation, '.', -1)]) as name group by 1"
    )
    rows = [{"place": place, "tags": tags} for place, tags in cursor.fetchall()]
    return pa.Table.from_pylist(rows, schema=PLACES)
