"""Tests of questions that arrive together: they share a call, and each gets its own answer or error."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mtsearch.serving.app import MicroBatcher

Call = tuple[str, list[int]]


def run(questions: list[tuple[str, int]], size: int = 4, seconds: float = 0.001) -> tuple[list[int], list[Call]]:
    """Return the answers in the order of the questions, and the calls that gave them."""
    calls: list[Call] = []

    def ask(key: str, numbers: Sequence[int]) -> list[int]:
        calls.append((key, list(numbers)))
        return [10 * number for number in numbers]

    async def all_at_once() -> list[int]:
        with ThreadPoolExecutor(1) as executor:
            batcher = MicroBatcher(ask, executor, size, seconds)
            return await asyncio.wait_for(asyncio.gather(*(batcher.answer(*one) for one in questions)), 10)

    return asyncio.run(all_at_once()), calls


def test_one_alone_waits_for_nobody_else() -> None:
    assert run([("a", 1)]) == ([10], [("a", [1])])


def test_full_groups_go_at_once() -> None:
    answers, calls = run([("a", number) for number in range(9)], size=4)
    assert answers == [10 * number for number in range(9)]
    assert calls == [("a", [0, 1, 2, 3]), ("a", [4, 5, 6, 7]), ("a", [8])]


def test_a_full_group_does_not_wait_for_the_clock() -> None:
    answers, _ = run([("a", number) for number in range(4)], size=4, seconds=3600)
    assert answers == [0, 10, 20, 30]


def test_keys_are_not_mixed() -> None:
    answers, calls = run([("a", 1), ("b", 2), ("a", 3)])
    assert answers == [10, 20, 30]
    assert sorted(calls) == [("a", [1, 3]), ("b", [2])]


def test_an_error_reaches_all_who_are_in_the_call_and_nobody_else() -> None:
    def ask(key: str, numbers: Sequence[int]) -> list[int]:
        if key == "bad":
            raise RuntimeError("broken")
        return list(numbers)

    async def all_at_once() -> list[int | BaseException]:
        with ThreadPoolExecutor(1) as executor:
            batcher = MicroBatcher(ask, executor)
            questions = [("bad", 1), ("good", 2), ("bad", 3)]
            return await asyncio.gather(*(batcher.answer(*one) for one in questions), return_exceptions=True)

    first, second, third = asyncio.run(all_at_once())
    assert isinstance(first, RuntimeError) and isinstance(third, RuntimeError)
    assert second == 2


def test_who_hangs_up_leaves_the_others_their_answers() -> None:
    async def one_leaves() -> int:
        with ThreadPoolExecutor(1) as executor:
            batcher: MicroBatcher[str, int, int] = MicroBatcher(lambda _, numbers: list(numbers), executor)
            leaving, staying = (asyncio.ensure_future(batcher.answer("a", number)) for number in (1, 2))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            return await asyncio.wait_for(staying, 10)

    assert asyncio.run(one_leaves()) == 2
