"""PostgreSQL's own regression SQL gives the same output through the gateway as without it, where everything is allowed."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.monitored import Monitored
from tests.enforcement.gateway import regression, running
from tests.enforcement.gateway.running import Authority, Running, Shop, Signer

SWITCH = r"set standard_conforming_strings *(?:to|=) *"
REFUSED = {
    "standard_conforming_strings cannot be switched off": re.compile(
        rf"^{SWITCH}(?:off|0);.*?^(?:{SWITCH}(?:on|1)|reset standard_conforming_strings);\n", re.I | re.M | re.S
    ),
    "it cannot be told which transaction a write is in": re.compile(
        r"^(?:select 1\\; begin\\; insert .*\n(?:commit|rollback);"
        r"|insert into \w+ values *\(\d+\)\\; (?:commit|rollback).*"
        r"|start transaction [^;]*; insert [^;]*; (?:commit|rollback)\\; .*)\n",
        re.I | re.M,
    ),
    "A prepared transaction ends outside its session": re.compile(
        r"^(?:prepare transaction|commit prepared|rollback prepared) .*;\n", re.I | re.M
    ),
}
"""What the gateway refuses whatever the rules say (docs/gateway.md, "What a client may notice"), by its sentence: left out."""
LINE = re.compile(r"^psql:[^ ]*:\d+: ", re.MULTILINE)
"""psql names the line that it has read up to, which depends on when a notice arrives."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SCRIPTS = (
    "strings transactions prepare portals portals_p2 copy2 copydml copyselect temp truncate triggers foreign_key constraints "
    "insert_conflict returning rowtypes plpgsql namespace drop_if_exists select_into errors unicode xid txid"
).split()
"""Those that have most of what a gateway can get wrong: transactions, portals, COPY, notices, names, errors."""
CLUSTER = {"max_prepared_transactions": "4", "fsync": "off", "pgaudit.log": "none", "log_min_error_statement": "panic"}


@pytest.fixture(scope="module")
def sql() -> Path:
    return regression.folder()


@pytest.fixture(scope="module")
def cluster(authority: Authority) -> Iterator[Monitored]:
    """One of its own: the scripts make roles and prepare transactions."""
    root = Path(tempfile.mkdtemp(prefix="touchstone-regression-"))
    root.chmod(0o711)
    made = Monitored(root, settings=CLUSTER)
    made.start()
    running.serve_tls(made, authority)
    yield made
    made.remove()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def both(
    cluster: Monitored, authority: Authority, signer: Signer, tmp_path_factory: pytest.TempPathFactory, sql: Path
) -> Iterator[tuple[Running, Shop]]:
    """A gateway before one database, and another database that is like it; in both test_setup has run, without the gateway."""
    folder = tmp_path_factory.mktemp("regression")
    shops = []
    for name in ("through", "direct"):
        (folder / name).mkdir()
        shops.append(Shop(cluster, authority, folder / name))
    for shop in shops:
        shop.run("drop table customers, orders, notes cascade")
        shop.run(f'alter database "{shop.name}" set bytea_output = hex')
        with cluster.connect() as admin:
            admin.execute(f'alter database "{shop.name}" owner to app')
            admin.execute("alter role app superuser")
        run(_direct(shop), sql, _script(sql, "test_setup"))
    made = Running(folder / "gateway", shops[0], signer)
    made.rules()
    yield made, shops[1]
    made.stop()


def _direct(shop: Shop) -> str:
    return shop.cluster.dsn("app", (shop.folder / "app.password").read_text(), shop.name)


def _script(sql: Path, name: str) -> str:
    return (sql / "sql" / f"{name}.sql").read_text(errors="surrogateescape")


def _allowed(text: str) -> str:
    for pattern in REFUSED.values():
        text = pattern.sub("", text)
    return text


def run(reach: str, sql: Path, text: str, *, password: str = "") -> str:
    """What psql prints of a script, errors among it as pg_regress takes them."""
    environment = {
        **os.environ, "PG_ABS_SRCDIR": str(sql), "PG_LIBDIR": "/nowhere", "PG_DLSUFFIX": ".so", "PG_ABS_BUILDDIR": "/nowhere",
        "PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "PGAPPNAME": "pg_regress",
        "PGOPTIONS": "-c intervalstyle=postgres_verbose",
    }  # fmt: skip
    if password:
        environment["PGPASSWORD"] = password
    hidden = ["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
    done = subprocess.run(
        ["psql", "-X", "-a", "-q", *hidden, "-f", "-", reach], input=text.encode(errors="surrogateescape"),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    return LINE.sub("", done.stdout.decode(errors="replace"))


def _through(gateway: Running, sql: Path, text: str) -> str:
    told = gateway.parameters()
    password = told.pop("password")
    return run(psycopg.conninfo.make_conninfo("", **told), sql, text, password=password)


def test_the_same_output_with_and_without_the_gateway(both: tuple[Running, Shop], sql: Path) -> None:
    gateway, direct = both
    different = []
    for name in SCRIPTS:
        text = _allowed(_script(sql, name))
        wanted = run(_direct(direct), sql, text).replace(direct.name, "shop").splitlines()
        seen = _through(gateway, sql, text).replace(gateway.shop.name, "shop").splitlines()
        if wanted != seen:
            lines = list(difflib.unified_diff(wanted, seen, "direct", "gateway", lineterm="", n=1))
            different.append(f"{name}: {len(lines)} lines\n" + "\n".join(lines[:25]))
    assert not different, "\n\n".join(different)


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_is_left_out_is_what_the_gateway_refuses(both: tuple[Running, Shop], sql: Path, sentence: str) -> None:
    texts = [found[0] for name in SCRIPTS for found in REFUSED[sentence].finditer(_script(sql, name))]
    assert texts
    for text in texts:
        assert sentence in _through(both[0], sql, text), text
