"""A report that is made once: a test of what is done with one has a copy of its store, at a tenth of what making it takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from lineage import checkpoints
from reports.models import Report
from tests import stores
from tests.conftest import named
from tests.reports.test_issuing import issued, opened


class Issued(NamedTuple):
    """A store in which the report of the shop's day was issued: its database, to which nobody is connected, and its folder."""

    database: str
    folder: Path
    report: int


@pytest.fixture(scope="session")
def issued_once(
    clones: stores.Stores, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Issued]:
    made, folder = clones.take(), tmp_path_factory.mktemp("issued")
    with override_settings(DATA_DIR=folder), django_db_blocker.unblock(), named(made):
        checkpoints.begin()
        opened()
        report = issued(environment="prod").pk
    yield Issued(made, folder, report)
    clones.give_back(made)


@pytest.fixture
def report(
    issued_once: Issued, clones: stores.Stores, django_db_blocker: DjangoDbBlocker, settings: Any, tmp_path: Path
) -> Iterator[Report]:
    """The report of the shop's day, in a store of its own for one test."""
    settings.DATA_DIR = tmp_path
    shutil.copytree(issued_once.folder, tmp_path, dirs_exist_ok=True)
    name = clones.take(like=issued_once.database)
    with django_db_blocker.unblock(), named(name):
        yield Report.objects.get(pk=issued_once.report)
    clones.give_back(name)
