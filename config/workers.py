"""What gunicorn does as a web process begins: `-c python:config.workers`."""

from __future__ import annotations

import threading

from django.db import connections


def post_worker_init(worker: object) -> None:
    """Requests are taken at once; one that comes meanwhile waits for what it needs, and no longer than if it had to open it."""
    threading.Thread(target=warm, name="warming").start()


def warm() -> None:
    """Opens what the first question would have to, and leaves no connection behind."""
    # Once the application is loaded.
    from lineage import engine

    try:
        engine.warm()
    finally:
        connections.close_all()
