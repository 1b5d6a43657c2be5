"""What gunicorn does as a web process begins: `-c python:config.workers`."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from pathlib import Path

from django.conf import settings
from django.db import connections
from django.template import loader
from django.urls import get_resolver

from config import garbage


def post_worker_init(worker: object) -> None:
    """Requests are taken at once; one that comes meanwhile waits for what it needs, and no longer than if it had to open it."""
    threading.Thread(target=warm, name="warming").start()


def warm() -> None:
    """Opens what the first question and the first page would have to, and leaves no connection behind; what is open stays loaded."""
    # Once the application is loaded.
    from lineage import engine

    try:
        engine.warm()
        read_pages()
        ask_extracts()
    finally:
        connections.close_all()
    garbage.leave_loaded()


def ask_extracts() -> None:
    """Which records meet the questions of a quarter, and which cite tickets: a process keeps both of each extract (docs/extracts.md)."""
    # Once the application is loaded.
    from lineage import errors, queries
    from lineage.access import Viewer
    from lineage.search import questions

    last = questions.quarter_of(dt.datetime.now(dt.UTC)).moved(-1)
    with contextlib.suppress(errors.StoreUnavailable, errors.QueryTooLong):
        everything, asked = Viewer(email="", role="admin"), {one.id: one.q for one in questions.QUESTIONS}
        queries.tallied(everything, asked, [(last.start, last.end)], None)
        queries.approvals(everything)


def read_pages() -> None:
    """Reads the templates of all pages, and their addresses: a process keeps both."""
    _ = get_resolver().reverse_dict
    folder: Path = settings.BASE_DIR / "templates"
    for path in sorted(folder.rglob("*.html")):
        loader.get_template(str(path.relative_to(folder)))
