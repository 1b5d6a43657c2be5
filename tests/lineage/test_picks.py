"""Picks: which columns of which tables records name, kept as numbers."""

from __future__ import annotations

import itertools
import json
import random

from lineage.extracts import picks
from lineage.extracts.columns import cut, wide
from lineage.extracts.picks import READ, READ_BY_NAME, WROTE, WROTE_BY_NAME

TABLES, COLUMNS = ("orders", "a.orders", "ä", None), ("id", "total", "*", "x\x1fy", None)
ASKED = (
    (("orders",), "id"),
    (("orders", "a.orders"), "total"),
    (("ä",), "*"),
    (("none",), "id"),
    (("orders",), "none"),
)


def told(drawn: random.Random) -> str:
    accesses = ("read", "wrote", "changed", "refused")
    named = {
        json.dumps([drawn.choice(TABLES), drawn.choice(accesses), drawn.sample(COLUMNS, drawn.randrange(4)) or None])
        for _ in range(drawn.randrange(4))
    }
    return json.dumps(sorted(named))


def expected(text: str, relations: tuple[str, ...], column: str) -> int:
    """The same of the text itself."""
    found = 0
    for relation, access, columns in map(json.loads, json.loads(text)):
        if relation in relations and access != "refused" and {column, "*"} & {*(columns or ())}:
            found |= READ if access == "read" else WROTE
            if column in columns:
                found |= READ_BY_NAME if access == "read" else WROTE_BY_NAME
    return found


def test_how_records_met_a_column_is_told_by_numbers_as_by_names_of_one_file_and_of_several_merged() -> None:
    drawn = random.Random(5)
    texts = [[told(drawn) for _ in range(count)] for count in (300, 1, 0, 200)]
    parts = [picks.made(some) for some in texts]
    whole, numbers = picks.together(parts)
    written = picks.read([cut(column) for column in whole.written()], whole.relations, whole.columns)
    again, (renumbered,) = picks.together([written])
    for relations, column in ASKED:
        for some, part, of_whole in zip(texts, parts, numbers, strict=True):
            meant = [expected(text, relations, column) for text in some]
            assert part.ways(relations, column).tolist() == meant
            assert written.ways(relations, column)[of_whole].tolist() == meant
            assert again.ways(relations, column)[renumbered[of_whole]].tolist() == meant


def test_each_set_of_columns_stands_in_a_merged_file_once() -> None:
    drawn = random.Random(6)
    texts = [[told(drawn) for _ in range(150)] for _ in range(3)]
    whole, _ = picks.together([picks.made(some) for some in texts])
    ends = whole.begins.tolist()
    sets = [tuple(wide(whole.members, slice(start, end)).tolist()) for start, end in itertools.pairwise(ends)]
    assert len({*sets}) == len(sets) < 450
