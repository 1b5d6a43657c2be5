"""Which ticket, or which run of an agent, each record of an extract names: most name none. Read once, and kept."""

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


class Named(NamedTuple):
    """The records that name one, ascending, and the number of what each names among `names`."""

    indexes: Indexes
    numbers: NDArray[np.unsignedinteger]
    names: list[str]

    def counted(self, indexes: Indexes, times: NDArray[np.int64]) -> Counter[str]:
        """How often each is named by these records, each of which counts so many `times`."""
        here, numbers = self._found(indexes)
        counts = np.bincount(numbers, times[here], len(self.names))
        return Counter({self.names[number]: int(counts[number]) for number in np.flatnonzero(counts).tolist()})

    def of(self, indexes: Indexes) -> tuple[Indexes, list[str]]:
        """Those of these records that name one, and what each names."""
        here, numbers = self._found(indexes)
        return indexes[here], [self.names[number] for number in numbers.tolist()]

    def _found(self, indexes: Indexes) -> tuple[NDArray[np.bool_], NDArray[np.unsignedinteger]]:
        """Which of these records name one, and the numbers of what those name."""
        if not len(self.indexes):
            return np.zeros(len(indexes), bool), self.numbers
        places = np.minimum(np.searchsorted(self.indexes, indexes), len(self.indexes) - 1)
        here = self.indexes[places] == indexes
        return here, self.numbers[places[here]]


def read(folder: Path, column: str) -> Named:
    """Raises Damaged."""
    files = [folder / name for name in (RECORDS, OVERRIDES)]
    try:
        parts = [
            pq.read_table(path, columns=["index", column], read_dictionary=[column]) for path in files if path.exists()
        ]
    except (OSError, pa.ArrowException) as error:
        raise Damaged(f"{folder.name} has no column {column}.") from error
    found = pa.concat_tables([part.filter(pc.is_valid(part[column])) for part in parts]) if parts else pa.table({})
    if not len(found):
        return Named(NOTHING, np.empty(0, np.uint8), [])
    words = found.unify_dictionaries()[column].combine_chunks()
    words = words.chunk(0) if isinstance(words, pa.ChunkedArray) else words
    indexes, numbers = found["index"].to_numpy().astype(np.int64), words.indices.to_numpy().astype(np.uint32)
    if (np.diff(indexes) < 0).any():
        order = np.argsort(indexes)
        indexes, numbers = indexes[order], numbers[order]
    return Named(indexes, narrow(numbers), words.dictionary.to_pylist())
