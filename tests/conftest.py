"""What every test may ask for: the store's PostgreSQL, and a monitored PostgreSQL 15."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import override_settings
from hypothesis import settings
from pytest_django.plugin import DjangoDbBlocker

from config import database, embedded, garbage, statics
from demo.monitored import Monitored
from lineage import checkpoints
from tests import stores
from tests.environment import DATA

# Tests do not depend on how busy the machine is.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI set a skipped test is a failed test: what was not tested must not look tested."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI is set: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start servers and kill them first: one of them alone would otherwise end the run long after the rest."""
    items.sort(key=lambda item: not {"crash", "tamper"} & set(item.path.parts))
    # Deeds on one server, each of which takes it as the one before left it.
    places = [at for at, item in enumerate(items) if item.get_closest_marker("in_order")]
    ordered = sorted((items[at] for at in places), key=lambda item: (str(item.path), item.reportinfo()[1] or 0))
    for at, item in zip(places, ordered, strict=True):
        items[at] = item


def pytest_collection_finish() -> None:
    """As a web process does: what is loaded is not looked through again and again for garbage."""
    garbage.leave_loaded()


@pytest.fixture(scope="session", autouse=True)
def _static_files_are_read_once() -> Iterator[None]:
    """Each `Client` makes the middleware anew, which would look at all static files again: half of a small request."""
    read = statics.Packed.add_files_from_finders
    found: dict[str, dict[str, Any]] = {}

    def once(self: statics.Packed) -> None:
        if self.static_prefix not in found:
            read(self)
            found[self.static_prefix] = dict(self.files)
        self.files.update(found[self.static_prefix])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statics.Packed, "add_files_from_finders", once)
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[..., dict[str, Any]]]:
    """The running PostgreSQL of the tests: DATABASE_URL, else an embedded one. Called with a role: libpq parameters."""
    with embedded.in_use(DATA):
        yield lambda role="owner", **more: database.parameters(DATA, role) | more


@pytest.fixture(scope="session")
def monitored() -> Iterator[Monitored]:
    """A PostgreSQL 15 with pgAudit as the demo watches it. Make your own database in it; it is shared."""
    root = Path(tempfile.mkdtemp(prefix="touchstone-monitored-"))
    root.chmod(0o711)
    cluster = Monitored(root)
    cluster.start()
    yield cluster
    cluster.remove()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(server: Callable[..., dict[str, Any]]) -> None:
    """The test database needs a running server first."""


@pytest.fixture(scope="session")
def template(server: Callable[..., dict[str, Any]], django_db_blocker: DjangoDbBlocker) -> str:
    """The name of a database that `manage.py setup` has set up, to clone from; nobody is connected to it."""
    name = "template_touchstone"
    with django_db_blocker.unblock(), psycopg.connect(**server(dbname="touchstone"), autocommit=True) as admin:
        admin.execute(f"drop database if exists {name} with (force)")
        admin.execute(f"create database {name}")
        before, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], name
        call_command("setup", verbosity=0)
        connections.close_all()
        connection.settings_dict["NAME"] = before
        if not os.environ.get("DATABASE_URL"):
            _hurry(server("postgres"))
    return name


def _hurry(superuser: dict[str, Any]) -> None:
    """This server never dies (tests/crash has those that do), so it need not wait for its disk; `setup` has seen that it would."""
    with psycopg.connect(**superuser, autocommit=True) as admin:
        for name in ("fsync", "full_page_writes"):
            admin.execute(f"alter system set {name} = off")
        admin.execute("select pg_reload_conf()")


@pytest.fixture(scope="session")
def clones(template: str, server: Callable[..., dict[str, Any]]) -> stores.Stores:
    """Databases as the template is."""
    return stores.of(template, server, is_ours=not os.environ.get("DATABASE_URL"))


@pytest.fixture
def store(
    clones: stores.Stores,
    django_db_blocker: DjangoDbBlocker,
    settings: Any,
    tmp_path: Path,
) -> Iterator[str]:
    """A store of its own for one test: a clone of the template as Django's database, and an empty data folder.

    Commits are real, so that ledger, keeper and engine can be tried as they run. Returns the database's name.
    """
    settings.DATA_DIR = tmp_path
    with django_db_blocker.unblock(), cloned(clones) as name:
        yield name


@pytest.fixture(scope="module")
def shared_store(
    clones: stores.Stores,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A store that all tests of a file share, for those that only look. Not beside `store`: Django knows one database."""
    folder = tmp_path_factory.mktemp("shared")
    with override_settings(DATA_DIR=folder), django_db_blocker.unblock(), cloned(clones) as name:
        yield name


@contextlib.contextmanager
def cloned(clones: stores.Stores) -> Iterator[str]:
    """A database as the template is, as Django's for the length of the block."""
    name = clones.take()
    try:
        with named(name):
            checkpoints.begin()
            yield name
    finally:
        clones.give_back(name)


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """This database as Django's for the length of the block; afterwards nobody is connected to it."""
    before, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], name
    try:
        yield
    finally:
        connections.close_all()
        connection.settings_dict["NAME"] = before
