"""Work that one process at a time may do, each under an advisory lock of the database that ends with its connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import connection

from lineage import errors

KEEPER = 7302
MERGE = "merge"
EXTRACT = "extract"


@contextlib.contextmanager
def tried(name: str) -> Iterator[bool]:
    """Takes the lock of this work for the block, without waiting; gives whether it did."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s, hashtext(%s))", [KEEPER, name])
        taken = bool(cursor.fetchone()[0])
        try:
            yield taken
        finally:
            if taken:
                cursor.execute("select pg_advisory_unlock(%s, hashtext(%s))", [KEEPER, name])


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Holds the lock of this work. Raises StoreUnavailable when another process does it."""
    with tried(name) as taken:
        if not taken:
            raise errors.StoreUnavailable(f"Another keeper does this: {name}.")
        yield
