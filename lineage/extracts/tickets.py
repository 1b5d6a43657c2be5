"""Which ticket each record of an extract names: most name none. Read of its records once, and kept by the process that asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lineage.extracts import OVERRIDES, RECORDS, Indexes
from lineage.extracts.columns import narrow
from lineage.extracts.postings import NOTHING, Damaged


class Tickets(NamedTuple):
    """The records that name one, ascending, and the number of its ticket among `names`."""

    indexes: Indexes
    numbers: NDArray[np.unsignedinteger]
    names: list[str]

    def counted(self, indexes: Indexes, times: NDArray[np.int64]) -> Counter[str]:
        """How often each ticket is named by these records, each of which counts so many `times`."""
        if not len(self.indexes) or not len(indexes):
            return Counter()
        places = np.minimum(np.searchsorted(self.indexes, indexes), len(self.indexes) - 1)
        here = self.indexes[places] == indexes
        counts = np.bincount(self.numbers[places[here]], times[here], len(self.names))
        return Counter({self.names[number]: int(counts[number]) for number in np.flatnonzero(counts).tolist()})


def read(folder: Path) -> Tickets:
    """Raises Damaged."""
    files = [folder / name for name in (RECORDS, OVERRIDES)]
    try:
        parts = [pq.read_table(path, columns=["index", "ticket"]) for path in files if path.exists()]
    except (OSError, pa.ArrowException) as error:
        raise Damaged(f"{folder.name} has no column of tickets.") from error
    if not parts:
        return Tickets(NOTHING, np.empty(0, np.uint8), [])
    found = pa.concat_tables(parts)
    found = found.filter(pc.is_valid(found["ticket"])).sort_by("index").combine_chunks()
    words = found["ticket"].combine_chunks().dictionary_encode()
    words = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
    numbers = words.indices.to_numpy().astype(np.uint32)
    return Tickets(found["index"].to_numpy().astype(np.int64), narrow(numbers), words.dictionary.to_pylist())
