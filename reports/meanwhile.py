"""Work beside other work, in a thread of its own: Arrow, DuckDB and SHA-256 let other threads of the process run meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


@contextlib.contextmanager
def asked(ask: Callable[[], T]) -> Iterator[Future[T]]:
    """What is asked while the block runs, to the end of which it is waited for; with a connection of its own to the store."""

    def apart() -> T:
        try:
            return ask()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(apart)


def ahead(parts: Iterable[T]) -> Iterator[T]:
    """The same parts, of which the next one is made while one is used. What fails there is raised here."""
    coming = iter(parts)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(next, coming, None)
        while (part := made.result()) is not None:
            made = pool.submit(next, coming, None)
            yield part


@contextlib.contextmanager
def behind(use: Callable[[T], object]) -> Iterator[Callable[[T], None]]:
    """Hands on to `use`, which works on one part while the next is made; what fails there is raised with a later part or at the end."""
    with ThreadPoolExecutor(1) as pool:
        last: list[Future[object]] = []

        def hand(part: T) -> None:
            while last:
                last.pop().result()
            last.append(pool.submit(use, part))

        yield hand
        while last:
            last.pop().result()
