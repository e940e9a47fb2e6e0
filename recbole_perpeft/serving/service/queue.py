"""Requests that come while others are computed are computed together, outside the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch

from recbole_perpeft.utils.cores import n_cores


class Busy(Exception):
    """More requests wait than may."""


class ListQueue:
    """Gives what waits to a thread, all that there is at a time; nothing waits for others to come.

    Parameters
    ----------
    compute
        Gives a result for each of some requests; never raises.
    noted
        Is told how many they are.
    size
        Requests that are computed together, at most.
    waiting
        Requests that wait, at most.

    Attributes
    ----------
    thread : ThreadPoolExecutor
        The one thread in which models compute; they are not made for several at a time.
    """

    def __init__(self, compute: Callable[[Sequence], list], noted: Callable[[int], None], size: int, waiting: int):
        self._compute, self._noted, self._size = compute, noted, size
        self._waiting: asyncio.Queue = asyncio.Queue(waiting)
        self._task: asyncio.Task | None = None
        self.thread = ThreadPoolExecutor(1, "lists", initializer=_share_with_event_loop)

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; what is computed just now is still answered."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.thread.shutdown()

    def __len__(self) -> int:
        return self._waiting.qsize()

    async def result(self, request: object) -> Any:
        """The result of ``request``.

        Raises
        ------
        Busy
            If too many wait.
        """
        answer = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((request, answer))
        except asyncio.QueueFull:
            raise Busy from None
        return await answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            some = [await self._waiting.get()]
            while len(some) < self._size and not self._waiting.empty():
                some.append(self._waiting.get_nowait())
            some = [(request, answer) for request, answer in some if not answer.done()]  # others have gone
            self._noted(len(some))
            results = await loop.run_in_executor(self.thread, self._compute, [request for request, _ in some])
            for (_, answer), result in zip(some, results, strict=True):
                if not answer.done():
                    answer.set_result(result)


def _share_with_event_loop() -> None:
    torch.set_num_threads(max(1, n_cores() - 1))
