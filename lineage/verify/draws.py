"""Draws the sample of a test again, by the words of docs/sampling.md alone."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from typing import Any

from lineage.errors import PackInvalid

LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)


def differing(told: dict[str, Any], answer: Any) -> str:
    """What of a sample is not as drawn again from a test's answer: words; empty: nothing. PackInvalid: it is no sample."""
    rows = zip(*(answer[name].to_pylist() for name in ("occurred_at", "item", "tested")), strict=True)
    items = [item for _, item in sorted((at or LATEST, item) for at, item, tested in rows if tested)]
    try:
        size, words = int(told["size"]), [str(told[name]) for name in ("engagement", "test", "nonce")]
        picks = [str(pick["item"]) for pick in told["picks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise PackInvalid("A sample does not follow its form.") from error
    if not 0 <= size <= len(items) or (items and not size):
        return "size"
    population = _sha256("".join(map(_sha256, items)))
    seed = _sha256("\n".join((words[0], words[1], population, words[2])))
    cuts = [run * len(items) // size for run in range(size + 1)] if size else []
    runs = [items[first:end] for first, end in itertools.pairwise(cuts)]
    drawn = [min(run, key=lambda item: _sha256(f"{seed}\n{item}")) for run in runs]
    found = {"population_sha256": population, "seed": seed, "picks": drawn, "population": len(items)}
    said = {**{name: told.get(name) for name in found}, "picks": picks}
    return ", ".join(name for name, value in found.items() if said[name] != value)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
