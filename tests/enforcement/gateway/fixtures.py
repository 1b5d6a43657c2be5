"""Fixtures of a running gateway: a PostgreSQL with TLS behind it, a signer of tokens. The conftest imports them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.monitored import Monitored
from tests.enforcement.gateway import running
from tests.enforcement.gateway.running import Authority, Process, Running, Shop, Signer

__all__ = ["authority", "gateway", "gateway_process", "make_gateway", "monitored_with_tls", "served_shop", "signer"]


@functools.cache
def the_authority(base: Path) -> Authority:
    """One for all modules that import these fixtures: each has fixtures of its own, and the database's server one certificate."""
    return Authority(base / "authority")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return the_authority(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="session")
def monitored_with_tls(monitored: Monitored, authority: Authority) -> Iterator[Monitored]:
    running.serve_tls(monitored, authority)
    yield monitored
    running.serve_plain(monitored)


@pytest.fixture
def served_shop(monitored_with_tls: Monitored, authority: Authority, tmp_path: Path) -> Iterator[Shop]:
    """A database of this test's own: customers, orders, notes; accounts app and other."""
    made = Shop(monitored_with_tls, authority, tmp_path)
    yield made
    made.drop()


@pytest.fixture
def make_gateway(served_shop: Shop, signer: Signer, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Called with texts for the settings file (`gateway=`, `database=`, `more=`): a gateway in a thread."""
    made: list[Running] = []

    def make(**texts: str) -> Running:
        made.append(Running(tmp_path / f"gateway{len(made)}", served_shop, signer, **texts))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def gateway(make_gateway: Callable[..., Running]) -> Running:
    """A running gateway before `served_shop`, with the built-in guardrails (`.rules()` allows everything).

    `.connect(who, claims={…}, **libpq)`, `.psql(…)`, `.events(kind="query")`, `.queries(text)`, `.rules(text)`, `.shop.run(sql)`.
    """
    return make_gateway()


@pytest.fixture
def gateway_process(served_shop: Shop, signer: Signer, tmp_path: Path) -> Iterator[Process]:
    """The same as a process of its own."""
    folder = tmp_path / "process"
    folder.mkdir()
    made = Process(folder, served_shop, signer)
    yield made
    made.stop()
