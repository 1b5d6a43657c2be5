"""The evidence pack as a file: content to canonical bytes and back (docs/verify.md, "The pack"). Pure.

`write` and `read` are inverse: one content has one file. `read` judges form only; whether the evidence holds is for
`lineage.verify`.
"""

from lineage.packfile.content import (
    FORMAT,
    VERSION,
    Anchor,
    Cited,
    Detached,
    Disclosure,
    Headers,
    PackContent,
    Selection,
    State,
    prefers_sparse,
)
from lineage.packfile.reading import check_format, parse, read
from lineage.packfile.writing import Bulk, members, parts, rewritten, write

__all__ = [
    "FORMAT",
    "VERSION",
    "Anchor",
    "Bulk",
    "Cited",
    "Detached",
    "Disclosure",
    "Headers",
    "PackContent",
    "Selection",
    "State",
    "check_format",
    "members",
    "parse",
    "parts",
    "prefers_sparse",
    "read",
    "rewritten",
    "write",
]
