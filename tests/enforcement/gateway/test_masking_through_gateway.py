"""The forms of docs/masking.md again, through a running gateway with an ordinary client."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from tests.enforcement.gateway.running import Running
from tests.enforcement.gateway.test_masking_forms import EMAIL, FORMS, MARKERS, SCHEMA
from tests.enforcement.gateway.wire import leaks

pytestmark = pytest.mark.slow

MASK_ALL = """
version = 3
[[rule]]
id = "masked"
title = "Everything that is classed is masked"
outcome = "mask"
classes = ["*"]
"""


@pytest.fixture
def masked(gateway: Running) -> Running:
    """A gateway that masks everything, before the forms' tables."""
    gateway.shop.run("drop table orders, customers, notes; " + SCHEMA)
    gateway.shop.run("grant all on all tables in schema public to app")
    gateway.reload()
    gateway.rules(MASK_ALL)
    return gateway


def seen(client: psycopg.Connection[Any], sql: str, binary: bool) -> bytes:
    """All that an ordinary client reads: values, error and notice texts."""
    told: list[bytes] = []
    client.add_notice_handler(
        lambda notice: told.append(repr([notice.message_primary, notice.message_detail]).encode())
    )
    client.execute("begin")
    try:
        with client.cursor(binary=binary) as cursor:
            if sql.startswith("copy"):
                with cursor.copy(sql) as stream:  # type: ignore[arg-type]
                    told += [bytes(part) for part in stream]
            else:
                cursor.execute(sql, prepare=False)  # type: ignore[arg-type]
                told += _values(cursor)
    except psycopg.Error as error:
        told.append(
            f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.context} {error.diag.message_hint}".encode()
        )
        if error.sqlstate == "42501":
            told.insert(0, b"REFUSED")
    with suppress(psycopg.Error):
        client.execute("rollback")
    client.execute("deallocate all")
    return b"\n".join(told)


def _values(cursor: psycopg.Cursor[Any]) -> list[bytes]:
    found = []
    while True:
        result = cursor.pgresult
        if result is not None and result.status == ExecStatus.TUPLES_OK:
            found += [result.get_value(r, c) or b"" for r in range(result.ntuples) for c in range(result.nfields)]
        if not cursor.nextset():
            return found


def test_no_form_shows_a_masked_value_through_the_gateway(masked: Running) -> None:
    with masked.connect() as client:
        client.prepare_threshold = None
        for form, (verdict, texts) in FORMS.items():
            for sql in texts:
                for binary in (False, True):
                    if binary and (";" in sql or sql.startswith("copy")):
                        continue
                    told = seen(client, sql, binary)
                    assert leaks(told, MARKERS) == [], (form, sql, binary, told)
                    assert verdict != "refused" or told.startswith(b"REFUSED"), (form, sql, told)


def test_what_is_recorded_counts_masked_values_and_holds_none(masked: Running) -> None:
    with masked.connect() as client:
        rows = client.execute("select id, email, upper(first_name), birth_date from customers").fetchall()
    assert rows == [(7, "z***@***.example", "••••", None)]
    event = next(e for e in masked.queries("upper(first_name)") if e.get("masked"))
    assert {item["name"]: item["count"] for item in event["masked"]["types"]} == {
        "email": 1,
        "date_of_birth": 1,
        "untraced": 1,
    }
    assert EMAIL not in repr(masked.events())
