"""Searches for words in statements: the folded statements are looked through, newest first. Where nothing else is asked for, the page is
read of cards; else the records that have the words are asked for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from lineage import search
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, terms
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.queries import candidates, paging, walking
from lineage.queries.ask import Window
from lineage.queries.walking import Range


def _told(q: str) -> tuple[list[str], bool]:
    """The words that each record of a search has, and whether it asks for nothing else."""
    query = search.parse(q)
    parts = query.root.parts if isinstance(query.root, search.And) else (query.root,)
    words = [part.value for part in parts if isinstance(part, search.Term) and part.name == "text" and part.value]
    return words, len(words) == len(parts)


def read(q: str) -> list[str] | None:
    """The words of a search that asks for nothing else; None of any other."""
    words, is_all = _told(q)
    return words if is_all else None


def found(question: Question, viewer: Viewer, q: str, window: Window, most: int) -> Indexes | None:
    """The records in scope and window that have the words of a search; None where it names none, or where more than `most` have them."""
    (words, _), asked = _told(q), candidates.wanted(viewer, window)
    if not words or asked is None:
        return None

    def tell(look: Lookup) -> Indexes | None:
        ranges = walking.ranges(question, viewer, window)
        some = look.of_words(words, asked, walking.apart(ranges), most + 1) if look.layers else None
        return some if some is not None and len(some) <= most else None

    return candidates.told(question, tell)


class Listed(paging.Listed):
    """The same list of records by their statements alone."""

    def __init__(self, of: paging.Listed, look: Lookup, words: Sequence[str], wanted: Wanted) -> None:
        super().__init__(of.question, of.relation, of.condition, of.values, of.ranges)
        self.look, self.words, self.wanted = look, words, wanted

    def _walk(self, ranges: Sequence[Range], most: int, is_up: bool = False) -> list[int]:
        if is_up:
            raise Unable
        found: list[int] = self.look.of_words(self.words, self.wanted, walking.apart(ranges), most)[:most].tolist()
        return found


def listed(of: paging.Listed, look: Lookup, viewer: Viewer, q: str, window: Window) -> Listed | None:
    """None where the search asks for more than words, or for accesses."""
    words = read(q) if of.relation == "activity" else None
    # What a question leaves out that names no kind, flag, source or environment.
    wanted = candidates.wanted(viewer, window, terms.LISTED)
    return Listed(of, look, words, wanted) if words and wanted is not None and look.layers else None
