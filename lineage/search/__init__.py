"""The search language of pages, API, packs, reports and command line (docs/search.md).

`parse` reads text into a `Query`; `to_sql` turns one into a DuckDB condition. User text reaches SQL only as parameters.
Pure: no I/O, no Django, no database. Everything that cannot be understood raises `lineage.errors.QueryInvalid`.
"""

from lineage.search.fields import FIELDS, By, fields, to_sql
from lineage.search.guide import EXAMPLES, HINTS, Unfinished, unfinished
from lineage.search.headers import HeaderPart, header_part
from lineage.search.reader import TEXT_LIMIT, parse
from lineage.search.terms import And, Chip, Node, Not, Or, Query, Term, chips, names, terms

__all__ = [
    "EXAMPLES",
    "FIELDS",
    "HINTS",
    "TEXT_LIMIT",
    "And",
    "By",
    "Chip",
    "HeaderPart",
    "Node",
    "Not",
    "Or",
    "Query",
    "Term",
    "Unfinished",
    "chips",
    "fields",
    "header_part",
    "names",
    "parse",
    "terms",
    "to_sql",
    "unfinished",
]
