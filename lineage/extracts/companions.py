"""What is written beside the records of an extract, each by a module of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lineage.extracts import Making, codes, firsts, folded, keys, sums, terms


class Companion(NamedTuple):
    """One of them: `version` is raised with every change of what is written; then extracts are made anew.

    `write` and `merge` make all of `files` (names in the folder) each time, also where there is nothing to put into them.
    """

    version: str
    files: tuple[str, ...]
    write: Callable[[Making], None]
    merge: Callable[[Making], None]


COMPANIONS: tuple[Companion, ...] = (
    Companion(keys.VERSION, (keys.FILE,), keys.write, keys.merge),
    Companion(terms.VERSION, terms.FILES, terms.write, terms.merge),
    Companion(sums.VERSION, sums.FILES, sums.write, sums.merge),
    Companion(firsts.VERSION, (firsts.FILE,), firsts.write, firsts.write),
    Companion(codes.VERSION, (codes.FILE,), codes.write, codes.merge),
    Companion(folded.VERSION, (folded.FILE,), folded.write, folded.merge),
)
