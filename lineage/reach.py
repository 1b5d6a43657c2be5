"""Places outside the log that keep values for a while; each tells how it lets go of them (docs/erasure.md).

The packages above this one register theirs when the program starts.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence

from lineage.events import Erased


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """`forget_texts` drops what people wrote that holds one of the texts.

    `forget_records` drops copies, made before the given time, of records within the spans, and names what it must
    keep. `tables` are those in which rows were replaced. Both can be called again and again.
    """

    forget_texts: Callable[[Sequence[str]], None]
    forget_records: Callable[[Sequence[Erased], dt.datetime], list[str]]
    tables: tuple[str, ...]


places: list[Place] = []
