"""Whom records name, each distinct: by these a name, an address or a login that somebody looks for leads to terms. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SQL = "select distinct told_id, told_name, told_email, db_user from made"


class Person(NamedTuple):
    """Who acted as records tell it."""

    told_id: str | None
    told_name: str | None
    told_email: str | None
    db_user: str | None


class Persons:
    """Those of one extract, or of what is newer than all, by every word that a search may find them by."""

    def __init__(self, every: Iterable[Person]) -> None:
        self.named: dict[str, list[Person]] = {}
        for one in set(every):
            for word in words(one):
                self.named.setdefault(word, []).append(one)

    def of(self, value: str, is_prefix: bool) -> Iterable[Person]:
        """Those whom a search for this may mean, maybe others too."""
        wanted = folded(value)
        if not is_prefix:
            return self.named.get(wanted, ())
        return {one for word, those in self.named.items() if word.startswith(wanted) for one in those}


def words(names: Iterable[str | None]) -> set[str]:
    """What each of these is found by: all of it, and what stands before an @."""
    told = {folded(name) for name in names if name is not None}
    return told | {name.partition("@")[0] for name in told}


def folded(text: str) -> str:
    """Letter by letter, as DuckDB's `lower` does it."""
    return text.lower() if text.isascii() else "".join(each.lower()[:1] for each in text)
