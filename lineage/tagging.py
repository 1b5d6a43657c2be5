"""Classes that people give to columns: who gave which and why, in the log before it counts (docs/findings.md, Tags)."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from django.db import transaction

from lineage import configuration, errors, ledger, rights
from lineage.access import Viewer, holds_database
from lineage.models import Role, Tag

SETTERS = frozenset({Role.SECURITY, Role.COMPLIANCE, Role.ADMIN})
NONE = "none"
CLASS = re.compile(r"[a-z][a-z0-9_]{0,39}")
MOST = 20
RELATION = re.compile(r"[^.]{1,63}\.[^.]{1,120}")


def may(viewer: Viewer) -> bool:
    """Whether the viewer may tag columns."""
    return viewer.role in SETTERS


def classes_of(text: str) -> list[str]:
    """The classes in a text such as "email secret"; "none" says that a column has none. Raises TagInvalid."""
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not CLASS.fullmatch(word)]
    if not words or wrong or len(words) > MOST or (NONE in words and len(words) > 1):
        raise errors.TagInvalid(
            "Write the classes in small letters with a space between, such as “email secret”, or “none” alone. Nothing was changed.",
            classes=(wrong or ["none stands alone"])[0][:40],
        )
    return sorted(set(words) - {NONE})


def subject(datasource: str, relation: str, column: str) -> str:
    """What a record about a tag is about."""
    return f"tag {datasource} {relation} {column}"[:512]


def establish(viewer: Viewer, datasource: str, relation: str, column: str, text: str, reason: str) -> list[str]:
    """Gives a column these classes instead of those it had; record and tag in one transaction. Returns the classes.

    Raises AccessDenied, NotFound (a database outside the viewer's scope) and TagInvalid; refusals are recorded.
    """
    try:
        if not may(viewer):
            raise errors.AccessDenied("Columns are tagged by security, compliance and administrators.")
        if not holds_database(viewer, datasource):
            raise errors.NotFound
        classes, why = classes_of(text), reason.strip()
        if not _are_names([datasource], 200) or not RELATION.fullmatch(relation) or not _are_names([column], 200):
            raise errors.TagInvalid("Name a database, a table as schema.table, and a column. Nothing was changed.")
        if not why or len(why) > 1000 or "\0" in why:
            raise errors.TagInvalid("Say in up to 1,000 characters why the classes change. Nothing was changed.")
    except errors.TouchstoneError as error:
        rights.refuse("configuration", None, viewer.email, error.code)
        raise
    with transaction.atomic():
        keep(datasource, relation, column, classes, viewer.email, why)
    return classes


def keep(datasource: str, relation: str, column: str, classes: list[str], by: str, why: str) -> None:
    """Gives a column these classes, with the record of it. Call inside a transaction."""
    own = Tag.objects.select_for_update().filter(datasource=datasource, relation=relation, column=column)
    before = own.first()
    told = ledger.decision(
        "configuration", decided_by=by, subject=subject(datasource, relation, column),
        transition=f"{_words(before.classes) if before else 'not tagged'} → {_words(classes)}", purpose=why,
    )  # fmt: skip
    whole = configuration.whole(before.classes if before else None, classes)
    ledger.record(msgspec.structs.replace(told, datasource=datasource, statement=whole))
    Tag.objects.update_or_create(
        datasource=datasource, relation=relation, column=column, defaults={"classes": classes, "by": by}
    )


def _words(classes: Iterable[str]) -> str:
    return " ".join(sorted(classes)) or NONE


def _are_names(names: Iterable[str], most: int) -> bool:
    return all(name.strip() and len(name) <= most and "\0" not in name for name in names)
