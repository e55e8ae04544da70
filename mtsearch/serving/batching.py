"""Requests that arrive together answered together: TensorFlow takes for 32 users hardly longer than for one."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Question = TypeVar("Question")
Answer = TypeVar("Answer")

SIZE = 32
SECONDS = 0.001


class MicroBatcher(Generic[Key, Question, Answer]):
    """Collects questions of one key for a millisecond, or until there are 32, and asks them in one call.

    Args:
        ask: answers questions of one key, in their order; runs in `executor`, so that the event loop goes on.
        executor: where TensorFlow works.
        size: questions that do not wait any longer.
        seconds: that the first question waits for others.
    """

    def __init__(
        self,
        ask: Callable[[Key, Sequence[Question]], Sequence[Answer]],
        executor: Executor,
        size: int = SIZE,
        seconds: float = SECONDS,
    ) -> None:
        self._ask, self._executor = ask, executor
        self._size, self._seconds = size, seconds
        self._waiting: dict[Key, _Group[Question, Answer]] = {}

    async def answer(self, key: Key, question: Question) -> Answer:
        """The answer to one question; an error of the call that answers it is raised to all who are in it."""
        loop = asyncio.get_running_loop()
        group = self._waiting.get(key)
        if group is None:
            group = self._waiting[key] = _Group(loop.call_later(self._seconds, self._send, key))
        future: asyncio.Future[Answer] = loop.create_future()
        group.questions.append(question)
        group.futures.append(future)
        if len(group.questions) >= self._size:
            self._send(key)
        return await future

    def _send(self, key: Key) -> None:
        group = self._waiting.pop(key)
        group.timer.cancel()
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._ask, key, group.questions)
        work.add_done_callback(partial(_hand_out, group.futures))


class _Group(Generic[Question, Answer]):
    """Questions of one key that wait, and who waits for their answers."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.questions: list[Question] = []
        self.futures: list[asyncio.Future[Answer]] = []


def _hand_out(futures: Sequence[asyncio.Future[Answer]], work: asyncio.Future[Sequence[Answer]]) -> None:
    error = work.exception()
    answers = work.result() if error is None else [None] * len(futures)
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # whoever asked has hung up
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)  # type: ignore[arg-type]
