"""Who waits for a place is let in by turns of the addresses."""

import asyncio

import pytest

from executor.turns import Turns, client_of

#: address -> under which name it waits
NAMES = {
    "192.0.2.1": "192.0.2.1",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
    "2001:db8:1:2::1": "2001:db8:1:2::/64",
    "2001:db8:1:3::1": "2001:db8:1:3::/64",
    "::ffff:192.0.2.1": "192.0.2.1",
    "": "",
    "a socket": "a socket",
}


@pytest.mark.parametrize("host", NAMES)
def test_a_client_waits_under_his_address_or_his_network(host):
    assert client_of(host) == NAMES[host]


def let_in(comers, places=1, gone=()):
    """Who gets a place, in which order, where all come before the first place comes free. gone: who gives up."""

    async def run():
        turns, order = Turns(places), []
        for _ in range(places):
            await turns.enter("first", 1)

        async def come(name):
            await turns.enter(name[0], 60)
            order.append(name)
            turns.leave()

        tasks = {name: asyncio.create_task(come(name)) for name in comers}
        await asyncio.sleep(0)
        for name in gone:
            tasks[name].cancel()
        for _ in range(places):
            turns.leave()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for _ in range(places):
            await turns.enter("last", 0)  # all are free again
        return order

    return asyncio.run(run())


def test_of_many_who_wait_each_address_has_its_turn():
    assert let_in(["a1", "a2", "a3", "a4", "b1", "c1", "b2"]) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_one_address_does_not_have_to_wait_for_the_flood_of_another():
    comers = [f"a{number}" for number in range(100)] + ["b"]

    assert let_in(comers).index("b") == 1


def test_who_has_given_up_takes_no_place():
    assert let_in(["a1", "a2", "b1", "a3"], gone=("a1", "b1")) == ["a2", "a3"]


def test_a_place_that_comes_to_one_who_gives_up_goes_to_the_next():
    async def run():
        turns = Turns(1)
        await turns.enter("a", 1)
        waiting = [asyncio.create_task(turns.enter(name, 60)) for name in "bc"]
        await asyncio.sleep(0)
        turns.leave()
        waiting[0].cancel()
        await asyncio.wait_for(waiting[1], 10)
        turns.leave()
        await turns.enter("d", 0)

    asyncio.run(run())


def test_who_waits_too_long_is_told_so_and_leaves_no_trace():
    async def run():
        turns = Turns(1)
        await turns.enter("a", 1)
        with pytest.raises(TimeoutError):
            await turns.enter("b", 0.01)
        turns.leave()
        await turns.enter("c", 0)

    asyncio.run(run())
