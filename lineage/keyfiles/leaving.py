"""Keys leave PostgreSQL once the sealed file that holds them is in the manifest and they are old enough.

The database's own function looks at both and takes them; whatever else would delete a key is refused by its trigger.
"""

from __future__ import annotations

from django.conf import settings
from django.db import connection

STEP = 20_000


def leave() -> int:
    """Lets go whatever is due, in short transactions; returns of how many records."""
    total = 0
    while done := _step():
        total += done
    return total


def _step() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select ledger_leave_keys(%s, %s)", [settings.KEY_SECONDS, STEP])
        return int(cursor.fetchone()[0])
