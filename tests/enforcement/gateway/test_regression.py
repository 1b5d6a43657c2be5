"""PostgreSQL's own regression SQL gives the same output through the gateway as without it, where everything is allowed."""

from __future__ import annotations

import difflib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.monitored import Monitored
from tests.enforcement.gateway import regression
from tests.enforcement.gateway.running import Authority, Running, Shop, Signer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SCRIPTS = (
    "boolean char name varchar text int2 int4 int8 oid float4 float8 bit numeric uuid enum money strings numerology "
    "date time timetz timestamp timestamptz interval inet macaddr arrays json jsonb jsonpath rangetypes domain "
    "case union subselect join aggregates groupingsets window with insert insert_conflict update delete returning "
    "transactions prepare portals portals_p2 copy2 copydml copyselect temp truncate matview merge sequence select "
    "select_distinct select_having select_implicit select_into limit updatable_views triggers foreign_key "
    "constraints inherit rowtypes polymorphism plpgsql rangefuncs errors drop_if_exists namespace regex unicode xid txid"
).split()  # fmt: skip


@pytest.fixture(scope="module")
def sql() -> Path:
    return regression.folder()


@pytest.fixture
def both(
    monitored_with_tls: Monitored, authority: Authority, signer: Signer, tmp_path: Path, sql: Path
) -> Iterator[tuple[Running, Shop]]:
    """A gateway before one database, and another database that is like it; in both test_setup has run, without the gateway."""
    shops = []
    for name in ("through", "direct"):
        (tmp_path / name).mkdir()
        shops.append(Shop(monitored_with_tls, authority, tmp_path / name))
    through, direct = shops
    for shop in shops:
        shop.run("drop table customers, orders, notes cascade")
        shop.run(f'alter database "{shop.name}" set bytea_output = hex')
        with shop.cluster.connect() as admin:
            admin.execute(f'alter database "{shop.name}" owner to app')
            admin.execute("alter role app superuser")
        run(_direct(shop), sql, "test_setup", folder=sql)
    made = Running(tmp_path / "gateway", through, signer)
    made.rules()
    yield made, direct
    made.stop()
    with through.cluster.connect() as admin:
        admin.execute("alter role app nosuperuser")
    for shop in shops:
        shop.drop()


def _direct(shop: Shop) -> str:
    return shop.cluster.dsn("app", (shop.folder / "app.password").read_text(), shop.name)


def run(reach: str, sql: Path, script: str, *, folder: Path, password: str = "") -> str:
    """What psql prints of a script, errors among it as pg_regress takes them."""
    environment = {
        **os.environ, "PG_ABS_SRCDIR": str(folder), "PG_LIBDIR": "/nowhere", "PG_DLSUFFIX": ".so", "PG_ABS_BUILDDIR": "/nowhere",
        "PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "PGAPPNAME": f"pg_regress/{script}",
        "PGOPTIONS": "-c intervalstyle=postgres_verbose",
    }  # fmt: skip
    if password:
        environment["PGPASSWORD"] = password
    hidden = ["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
    done = subprocess.run(
        ["psql", "-X", "-a", "-q", *hidden, "-f", str(sql / "sql" / f"{script}.sql"), reach],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout.decode(errors="replace")


def test_the_same_output_with_and_without_the_gateway(both: tuple[Running, Shop], sql: Path) -> None:
    gateway, direct = both
    told = gateway.parameters()
    password = told.pop("password")
    reach = psycopg.conninfo.make_conninfo("", **told)
    different = []
    for script in SCRIPTS:
        wanted = run(_direct(direct), sql, script, folder=sql).replace(direct.name, "shop")
        seen = run(reach, sql, script, folder=sql, password=password).replace(gateway.shop.name, "shop")
        if wanted != seen:
            lines = list(
                difflib.unified_diff(wanted.splitlines(), seen.splitlines(), "direct", "gateway", lineterm="", n=1)
            )
            different.append(f"{script}: {len(lines)} lines\n" + "\n".join(lines[:25]))
    assert not different, "\n\n".join(different)
