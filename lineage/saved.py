"""Saved searches: a text kept under a name, for oneself or for one's role. Whoever runs one sees what their own scope holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q

from lineage import configuration, errors, exports, reach, search
from lineage.access import Viewer
from lineage.erasures import selection
from lineage.events import Erased
from lineage.models import SavedSearch

MOST = 200
KEPT = dt.timedelta(days=30)
FIELDS = ("name", "q", "by", "since", "until", "environment")
LENGTHS = {"since": 40, "until": 40, "environment": 100}
ERASED_SEARCH = "(erased)"


def listing(viewer: Viewer) -> list[SavedSearch]:
    """The viewer's own, and those that others of their role share who see no more than the viewer; by name."""
    mine = Q(owner=viewer.email) | Q(role=viewer.role)
    found = SavedSearch.objects.filter(mine, deleted_at__isnull=True).order_by("name", "id")
    return [kept for kept in found if kept.owner == viewer.email or _covers(scope_of(viewer), kept.scope)]


def scope_of(viewer: Viewer) -> dict[str, Any]:
    """A viewer's scope as it is kept beside a search."""
    times = {"from": viewer.from_at, "until": viewer.until_at}
    return {
        "datasources": sorted(viewer.datasources),
        "environments": sorted(viewer.environments),
        **{name: at.isoformat() if at else None for name, at in times.items()},
    }


def _covers(wide: dict[str, Any], narrow: dict[str, Any]) -> bool:
    """Whether everything in the narrow scope is in the wide one. Whose scope is not known is not covered."""
    if not narrow:
        return False
    for name in ("datasources", "environments"):
        if wide[name] and not (narrow[name] and set(narrow[name]) <= set(wide[name])):
            return False
    begins = wide["from"] is None or (narrow["from"] is not None and _at(narrow["from"]) >= _at(wide["from"]))
    return begins and (
        wide["until"] is None or (narrow["until"] is not None and _at(narrow["until"]) <= _at(wide["until"]))
    )


def _at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def deleted(viewer: Viewer) -> list[SavedSearch]:
    """The viewer's own that were deleted within 30 days, newest first: each can be taken back."""
    since = dt.datetime.now(dt.UTC) - KEPT
    return list(SavedSearch.objects.filter(owner=viewer.email, deleted_at__gte=since).order_by("-deleted_at"))


def one(viewer: Viewer, number: int) -> SavedSearch:
    """Raises NotFound for one that the viewer does not see."""
    found = next((each for each in listing(viewer) if each.pk == number), None)
    if found is None:
        raise errors.NotFound("There is no saved search here that you may see.")
    return found


def save(viewer: Viewer, given: dict[str, str], is_shared: bool, number: int | None = None) -> SavedSearch:
    """Keeps a search, or changes one's own. Raises QueryInvalid, AccessDenied and NotFound; refusals are recorded."""
    with configuration.asked(viewer.email, _subject(number)), transaction.atomic():
        if number is None:
            if SavedSearch.objects.filter(owner=viewer.email, deleted_at__isnull=True).count() >= MOST:
                raise errors.QueryInvalid(f"You keep {MOST} searches already. Delete one first.", name="too many")
            kept = SavedSearch(owner=viewer.email)
        else:
            kept = _own(viewer, number)
        before = _told(kept) if kept.pk else None
        for name, text in _checked(given).items():
            setattr(kept, name, text)
        kept.role, kept.scope = viewer.role if is_shared else "", scope_of(viewer)
        kept.changed_at = dt.datetime.now(dt.UTC)
        kept.save()
        _record(viewer, kept, before, _told(kept))
        return kept


def remove(viewer: Viewer, number: int) -> SavedSearch:
    """Deletes one's own; for 30 days it can be taken back. Raises AccessDenied and NotFound."""
    with configuration.asked(viewer.email, _subject(number)), transaction.atomic():
        kept = _own(viewer, number)
        _record(viewer, kept, _told(kept), None)
        kept.deleted_at = dt.datetime.now(dt.UTC)
        kept.save()
        SavedSearch.objects.filter(deleted_at__lt=kept.deleted_at - KEPT).delete()
        return kept


def restore(viewer: Viewer, number: int) -> SavedSearch:
    """Takes a deletion back. What was shared is shared again only while the owner still has that role. Raises NotFound."""
    with configuration.asked(viewer.email, _subject(number)), transaction.atomic():
        kept = next((each for each in deleted(viewer) if each.pk == number), None)
        if kept is None:
            raise errors.NotFound("There is no deleted search of yours here to take back.")
        kept.deleted_at, kept.role = None, kept.role if kept.role == viewer.role else ""
        kept.save()
        _record(viewer, kept, None, _told(kept))
        return kept


def _own(viewer: Viewer, number: int) -> SavedSearch:
    kept = one(viewer, number)
    if kept.owner != viewer.email:
        raise errors.AccessDenied(
            f"This search is kept by {kept.owner}: save it under a name of your own to change it."
        )
    return SavedSearch.objects.select_for_update().get(pk=kept.pk)


def _checked(given: dict[str, str]) -> dict[str, str]:
    """The fields, as they may be kept. Raises QueryInvalid."""
    told = {name: given.get(name, "").strip() for name in FIELDS}
    if not 0 < len(told["name"]) <= 100 or not told["name"].isprintable():
        raise errors.QueryInvalid("Give the search a name of up to 100 characters. Nothing was saved.", name="length")
    if told["by"] not in exports.FILES:
        raise errors.QueryInvalid(f"What is listed is one of {', '.join(exports.FILES)}.", by="unknown")
    if any(len(told[name]) > most or not told[name].isprintable() for name, most in LENGTHS.items()):
        raise errors.QueryInvalid("The time range or environment is too long. Nothing was saved.", since="length")
    search.parse(told["q"])
    return told


def _record(viewer: Viewer, kept: SavedSearch, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    """What others see, or saw, is a configuration record; what one keeps for oneself is nobody's business."""
    shared_before = before if before and before["shared with"] else None
    shared_after = after if after and after["shared with"] else None
    if shared_before or shared_after:
        configuration.record(viewer.email, _subject(kept.pk), shared_before, shared_after)


def _told(kept: SavedSearch) -> dict[str, Any]:
    return {name: getattr(kept, name) for name in FIELDS} | {"owner": kept.owner, "shared with": kept.role}


def _subject(number: int | None) -> str:
    return f"saved search {number}" if number else "saved search"


def forget_texts(texts: Sequence[str]) -> None:
    """A saved search that holds one of the texts is emptied, deleted ones too."""
    for kept in SavedSearch.objects.all():
        if selection.names_one(texts, kept.q) or selection.names_one(texts, kept.name):
            SavedSearch.objects.filter(pk=kept.pk).update(q=ERASED_SEARCH, name=ERASED_SEARCH)


def forget_records(spans: Sequence[Erased], before: dt.datetime) -> list[str]:
    """No copies of records are kept here."""
    return []


PLACE = reach.Place(forget_texts, forget_records, ("lineage_savedsearch",))
