"""Rows on their way to the client: masked values are put into their places, all other bytes are taken over as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from enforcement.gateway.messages.kinds import FromServer
from enforcement.gateway.messages.reading import HEAD, I32, U16, U32, FrameError

Masks = Sequence[Callable[[bytes], bytes | None] | None]
"""For each column what makes its values (neither NULL nor empty) what is shown; None: they stay."""

_ROW_HEAD = 7
"""Kind, length and count of values."""
_NULL = b"\xff\xff\xff\xff"


def masked_rows(data: bytes, at: int, stop: int, masks: Masks) -> bytes:
    """The DataRows that fill `data[at:stop]`, masked. As strict as `row_values`: FrameError for what is no row of this width."""
    parts: list[bytes] = []
    while at < stop:
        end = at + 1 + U32.unpack_from(data, at + 1)[0]
        if end - at < _ROW_HEAD or U16.unpack_from(data, at + 5)[0] != len(masks):
            raise FrameError("A row has another number of values than its description says.")
        _mask_row(data, at, end, masks, parts)
        at = end
    return b"".join(parts)


def _mask_row(data: bytes, at: int, end: int, masks: Masks, parts: list[bytes]) -> None:
    head, place = len(parts), at + _ROW_HEAD
    taken, length, unpack = at + 5, end - at - 1, I32.unpack_from
    parts.append(b"")
    for mask in masks:
        start = place + 4
        if start > end:
            raise FrameError("A row is shorter than the counts inside it say.")
        (size,) = unpack(data, place)
        place = start + size if size > 0 else start
        if place > end or size < -1:
            raise FrameError("A value's length is not one that a row can hold.")
        if mask is None or size <= 0:
            continue
        value = data[start:place]
        shown = mask(value)
        if shown is not value:
            told = _NULL if shown is None else U32.pack(len(shown)) + shown
            if taken < start - 4:
                parts.append(data[taken : start - 4])
            parts.append(told)
            length += len(told) - size - 4
            taken = place
    if place != end:
        raise FrameError("A row is longer than its content.")
    parts[head] = HEAD.pack(FromServer.DATA_ROW, length)
    parts.append(data[taken:end])
