"""The databases that the organisation says it has, and who answers for them: imported reference with history.

Each import is a `configuration` record with the file's hash; each entry that says something else than before is one more,
with old and new value. What an import does not name stays as it was said last (docs/sources.md).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec

from lineage import configuration, ledger
from lineage.models import InventoryEntry, Owner

STATES = ("active", "retired")
DATABASE_COLUMNS = ("datasource", "environment", "system", "state", "note")
OWNER_COLUMNS = ("datasource", "relation", "id", "name", "email")
LENGTHS = {"environment": 100, "system": 100, "note": 400}
LENGTH = 200
Row = Mapping[str, str]


def check_database(row: Row, as_of: dt.datetime) -> str:
    """What is wrong with a row; empty where nothing is."""
    if not row.get("datasource") or not row.get("environment"):
        return f"every row needs datasource and environment; it may have {', '.join(DATABASE_COLUMNS[2:])}."
    if row.get("state") and row["state"] not in STATES:
        return f"state is {' or '.join(STATES)}."
    return _too_long(row, DATABASE_COLUMNS)


def check_owner(row: Row, as_of: dt.datetime) -> str:
    """What is wrong with a row; empty where nothing is."""
    if not row.get("datasource") or not row.get("id"):
        return f"every row needs datasource and id; it may have {', '.join(c for c in OWNER_COLUMNS if c not in ('datasource', 'id'))}."
    if row.get("relation") and "." not in row["relation"]:
        return f"relation is schema.table, not {row['relation'][:60]}; empty for the whole database."
    return _too_long(row, OWNER_COLUMNS)


def _too_long(row: Row, columns: tuple[str, ...]) -> str:
    long = [name for name in columns if len(row.get(name) or "") > LENGTHS.get(name, LENGTH)]
    return f"{long[0]} has more than {LENGTHS.get(long[0], LENGTH)} characters." if long else ""


def keep_database(row: Row, as_of: dt.datetime, who: str) -> None:
    """Call inside a transaction."""
    place: dict[str, Any] = {"datasource": row["datasource"], "environment": row["environment"]}
    before = InventoryEntry.objects.filter(**place, as_of__lte=as_of).order_by("-as_of").first()
    said = {"system": row.get("system") or "", "state": row.get("state") or "active", "note": row.get("note") or ""}
    InventoryEntry.objects.update_or_create(**place, as_of=as_of, defaults=said)
    was = {name: getattr(before, name) for name in said} if before else None
    _told(f"inventory {row['datasource']} {row['environment']}", was, said, as_of, who)


def keep_owner(row: Row, as_of: dt.datetime, who: str) -> None:
    """Call inside a transaction. All owners of one place that carry its newest time count together."""
    place: dict[str, Any] = {"datasource": row["datasource"], "relation": row.get("relation") or ""}
    earlier = Owner.objects.filter(**place, as_of__lt=as_of).order_by("-as_of").first()
    was = (
        sorted(Owner.objects.filter(**place, as_of=earlier.as_of).values_list("person_id", flat=True))
        if earlier
        else None
    )
    Owner.objects.update_or_create(
        **place, person_id=row["id"], as_of=as_of,
        defaults={"name": row.get("name") or row["id"], "email": row.get("email") or ""},
    )  # fmt: skip
    now = sorted(Owner.objects.filter(**place, as_of=as_of).values_list("person_id", flat=True))
    subject = f"owner {row['datasource']} {row.get('relation') or ''}".strip()
    _told(subject, {"owners": ", ".join(was)} if was else None, {"owners": ", ".join(now)}, as_of, who)


def _told(subject: str, was: Mapping[str, str] | None, now: Mapping[str, str], as_of: dt.datetime, who: str) -> None:
    if was == now:
        return
    changed = [f"{name}: {(was or {}).get(name) or 'nothing'} → {text or 'nothing'}" for name, text in now.items()
               if (was or {}).get(name, "") != text]  # fmt: skip
    told = ledger.decision(
        "configuration",
        decided_by=who,
        subject=subject,
        transition="; ".join(changed),
        purpose=f"as of {as_of.isoformat()}",
    )
    ledger.record(msgspec.structs.replace(told, statement=configuration.whole(was, now)))
