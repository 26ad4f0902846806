"""Turns: at once for few, spread for many, nobody left out."""

import asyncio

import pytest

from sisy.live.turns import JOBS, PAGES, Turns, longest_round, turns_of_this_loop

APART = 0.02


class Caller:
    """Asks for turns and notes when it had them."""

    def __init__(self, turns: Turns, *, apart: float = APART) -> None:
        self.had: list[float] = []
        self._turns = turns
        self._apart = apart

    def ask(self, *, after: float = 0.0) -> None:
        self._turns.ask(self.call, earliest=asyncio.get_running_loop().time() + after)

    def call(self) -> float:
        self.had.append(asyncio.get_running_loop().time())
        return self._apart


@pytest.fixture
async def turns() -> Turns:
    return Turns(asyncio.get_running_loop())


async def test_one_caller_has_its_turn_at_once(turns):
    caller = Caller(turns)
    caller.ask()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(caller.had) == 1


async def test_many_have_it_one_after_the_other_and_none_is_left_out(turns):
    callers = [Caller(turns) for _ in range(10)]
    for caller in callers:
        caller.ask()
    while not callers[-1].had:
        await asyncio.sleep(APART)
    had = [caller.had[0] for caller in callers]
    assert had == sorted(had)
    assert min(second - first for first, second in zip(had, had[1:], strict=False)) >= APART - 0.001


async def test_who_must_wait_anyway_keeps_nobody_waiting(turns):
    later, now = Caller(turns), Caller(turns)
    later.ask(after=10 * APART)
    now.ask()
    while not later.had:
        await asyncio.sleep(APART)
    assert now.had[0] <= later.had[0] - 5 * APART


async def test_who_has_left_takes_no_turn(turns):
    gone, there = Caller(turns), Caller(turns)
    gone.ask()
    there.ask()
    turns.withdraw(gone.call)
    turns.withdraw(gone.call)
    await asyncio.sleep(3 * APART)
    assert (gone.had, len(there.had)) == ([], 1)


async def test_each_says_how_long_the_next_one_waits(turns):
    costly, other = Caller(turns, apart=5 * APART), Caller(turns)
    costly.ask()
    other.ask()
    while not other.had:
        await asyncio.sleep(APART)
    assert other.had[0] - costly.had[0] >= 5 * APART - 0.001


async def test_one_whose_turn_goes_wrong_keeps_nobody_from_theirs(turns, caplog):
    def fail() -> float:
        raise RuntimeError("a socket in trouble")

    turns.ask(fail, earliest=0.0)
    other = Caller(turns)
    other.ask()
    while not other.had:
        await asyncio.sleep(APART)
    assert "a socket in trouble" in caplog.text  # asyncio logs it


async def test_a_loop_has_one_of_each_kind():
    assert turns_of_this_loop(PAGES) is turns_of_this_loop(PAGES)
    assert turns_of_this_loop(PAGES) is not turns_of_this_loop(JOBS)


async def test_the_longest_round_is_as_long_as_all_take_at_their_present_pace():
    assert longest_round(PAGES) == 0
    turns = turns_of_this_loop(PAGES)
    turns.members = 4
    assert longest_round(PAGES) == 0
    Caller(turns, apart=0.25).ask()
    await asyncio.sleep(APART)
    assert longest_round(PAGES) == 1
    assert longest_round(JOBS) == 0
