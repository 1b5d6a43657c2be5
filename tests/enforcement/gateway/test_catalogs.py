"""Readings of the catalog when the database is away, when nobody waits for them any more, and when several do."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import msgspec
import pytest

from enforcement.gateway.catalogs import Keeper, Unavailable
from tests.crash.network import Network
from tests.enforcement.gateway.running import Running, until

pytestmark = pytest.mark.slow


def run(gateway: Running, work: Any) -> Any:
    """A coroutine in the gateway's event loop; its result."""
    return asyncio.run_coroutine_threadsafe(work, gateway.loop).result(60)


async def away(keeper: Keeper, port: int) -> None:
    """From now on its database is at `port`."""
    await keeper.close()
    keeper.database = msgspec.structs.replace(keeper.database, port=port)


def test_a_reading_that_nobody_waits_for_any_more_leaves_no_fault_behind(gateway: Running) -> None:
    keeper, network, told = gateway.gateway.served["shop"].keeper, Network(gateway.shop.port), list[Any]()
    network.down()

    async def given_up() -> None:
        gateway.loop.set_exception_handler(lambda _, context: told.append(context))
        await away(keeper, network.port)
        asked = asyncio.ensure_future(keeper.anew())
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        with pytest.raises(Unavailable):
            await keeper.anew()
        del asked
        gc.collect()
        await asyncio.sleep(0)

    run(gateway, given_up())
    network.stop()
    assert told == []
    gateway.stop()
    gc.collect()
    assert told == []


def test_the_keeper_that_ends_takes_no_connection_from_a_reading(gateway: Running) -> None:
    keeper = gateway.gateway.served["shop"].keeper
    with gateway.shop.cluster.connect(gateway.shop.name) as blocker, blocker.transaction():
        blocker.execute("lock table pg_catalog.pg_trigger in access exclusive mode")
        reading = asyncio.run_coroutine_threadsafe(keeper.load(), gateway.loop)
        until(lambda: reads(gateway))
        ending = asyncio.run_coroutine_threadsafe(ended(keeper), gateway.loop)
        assert not reading.done()
    assert reading.result(60).version
    ending.result(60)


async def ended(keeper: Keeper) -> None:
    """Begin its rounds and cancel them."""
    rounds = asyncio.ensure_future(keeper.run())
    await asyncio.sleep(0)
    rounds.cancel()
    await asyncio.gather(rounds, return_exceptions=True)


def reads(gateway: Running) -> bool:
    """Whether the gateway waits for the catalog's tables."""
    found = gateway.shop.run(
        "select count(*) from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.datname = current_database()"
        " and a.application_name like 'touchstone-gateway%'"
    )
    return bool(found[0][0])


def test_one_reading_serves_all_who_wait_and_none_gets_one_that_began_before_it_asked(gateway: Running) -> None:
    keeper = gateway.gateway.served["shop"].keeper
    with gateway.shop.cluster.connect(gateway.shop.name) as blocker, blocker.transaction():
        blocker.execute("lock table pg_catalog.pg_trigger in access exclusive mode")
        first = asyncio.run_coroutine_threadsafe(keeper.load(), gateway.loop)
        until(lambda: reads(gateway))
        gateway.shop.run("create table late (id int)")
        others = [asyncio.run_coroutine_threadsafe(keeper.anew(), gateway.loop) for _ in range(5)]
        assert not any(one.done() for one in (first, *others))
    found = [one.result(60) for one in others]
    assert len({id(one) for one in found}) == 1
    assert "late" in {one.name for one in found[0].relations.values()}


def test_all_who_wait_are_told_of_one_failure(gateway: Running) -> None:
    keeper, network = gateway.gateway.served["shop"].keeper, Network(gateway.shop.port)
    network.down()

    async def asked() -> list[Any]:
        await away(keeper, network.port)
        return await asyncio.gather(*(keeper.anew() for _ in range(5)), return_exceptions=True)

    told = run(gateway, asked())
    network.stop()
    assert [type(one) for one in told] == [Unavailable] * 5
    assert len({str(one) for one in told}) == 1
    assert keeper.current is not None, "the last catalog stays"
