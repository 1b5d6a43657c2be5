"""What a process that answers, seals or makes extracts does about Python's own search for garbage."""

from __future__ import annotations

import atexit
import gc


def leave_loaded() -> None:
    """Called once all is loaded, and again once what answers come from is open: that stays, and is not looked through again while
    answers make and drop objects.

    Else it is every thirty answers or so, for 0.1 to 0.2 s each time. At the end it is let go of, or DuckDB's binding tells of leaks.
    """
    atexit.register(gc.unfreeze)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
