"""What the four readers look for in the demo, and how their finds are held against what happened."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import time
import zipfile
from typing import Any

import psycopg

from demo import shop
from demo.promises import expect

CLICKS_MOST = 3
CUSTOMER = "4711"
RELATION = "public.customers"
TABLE = f"{shop.DATASOURCE} / {RELATION}"
APPROVED = "new-name"
"""The deed of which the auditor asks."""
SEARCH = f"relation:customers key:{CUSTOMER} kind:change"
SAVED = f"Changes of customer {CUSTOMER}"
QUARTERLY = "Who changed the structure of databases?"
CAPTURE = "shop-changes"
LOST = "Changes between are missing"
PATIENCE_SECONDS = 120


def exported(body: bytes) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Manifest and lines of an exported CSV. Broken: the manifest's hash is not that of the file."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        file = archive.read(manifest["file"]["name"])
    expect(hashlib.sha256(file).hexdigest() == manifest["file"]["sha256"], "the file's hash is not the manifest's")
    lines = list(csv.DictReader(io.StringIO(file.decode("utf-8-sig"))))
    expect(
        len(lines) == manifest["rows"]["count"], f"{len(lines)} lines, the manifest says {manifest['rows']['count']}"
    )
    return manifest, lines


def lose_changes(connection: psycopg.Connection[Any]) -> None:
    """Drop the slot of change capture under its collector: what changes until a new one stands is never told."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'touchstone' and active"
        )
        try:
            connection.execute("select pg_drop_replication_slot('touchstone')")
        except psycopg.errors.ObjectInUse:
            expect(time.monotonic() < deadline, "the slot stayed in use")
            time.sleep(0.05)
        else:
            return


def quarter(at: dt.datetime) -> str:
    """The quarter of a time as the page calls it."""
    return f"{at.year}-Q{(at.month + 2) // 3}"
