"""What a service does: lists from what it serves, new items into it, and another in its place."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from logging import getLogger
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.exceptions import HTTPException

from recbole_perpeft.serving.service.bodies import ItemBody, ListBody
from recbole_perpeft.serving.service.limits import Limits
from recbole_perpeft.serving.service.lists import Asked, Columns, lists_of
from recbole_perpeft.serving.service.metrics import Metrics
from recbole_perpeft.serving.service.posted_items import check_items, write_items
from recbole_perpeft.serving.service.queue import ListQueue
from recbole_perpeft.serving.service.served import Opener, Served
from recbole_perpeft.utils.errors import BundleError, EncoderError, PerPEFTError, RequestError

TOGETHER = 32  # lists that are computed at a time


class Shop:
    """A recommender at a time, asked by many at a time.

    Parameters
    ----------
    opener
        Opens what is served, now and at every reload.
    limits
        What a request may be at most.
    has_page
        Whether pictures are shown.

    Attributes
    ----------
    served : Served
        What is served now. Of the event loop; it is replaced as a whole.
    metrics : Metrics
        What was done.

    Raises
    ------
    PerPEFTError
        If there is nothing to open.
    """

    def __init__(self, opener: Opener, limits: Limits, has_page: bool):
        self._opener, self._limits, self._has_page = opener, limits, has_page
        self.served, self.metrics = Served.of(opener(), 1, has_page), Metrics()
        self._queue: ListQueue | None = None
        self._beside: ThreadPoolExecutor | None = None
        self._changing = asyncio.Lock()

    def start(self) -> None:
        """Begin to make lists, in the running event loop."""
        self._queue = ListQueue(self._lists, self.metrics.sizes.add, TOGETHER, self._limits.waiting)
        self._queue.start()
        self._beside = ThreadPoolExecutor(1, "beside")  # opens and reads while lists are made

    async def stop(self) -> None:
        """End; what is computed just now is still answered."""
        await self._queue.stop()
        self._beside.shutdown(cancel_futures=True)

    # -- lists ------------------------------------------------------------------------------------------------------

    async def recommend(self, body: ListBody) -> dict:
        """The list of a request.

        Raises
        ------
        HTTPException
            If the user is unknown.
        PerPEFTError
            If it cannot be met.
        Busy
            If too many wait.
        """
        self._check(body)
        columns = body.columns
        if columns is None:
            columns = [self.served.title] if self.served.title else []
        asked = Asked(body.user, body.history and tuple(body.history), _options(body, columns, self.served.groups > 0))
        served, found = await self._queue.result(asked)
        if isinstance(found, Exception):
            raise found
        rows = zip(*(found[name].tolist() for name in ("item_id", "score", *columns)), strict=True)
        return {
            "user": body.user,
            "group": int(found["group"][0]) if served.groups else None,
            "served": served.number,
            "items": [
                {"item": item, "score": score, **dict(zip(columns, more, strict=True)), "picture": served.picture(item)}
                for item, score, *more in rows
            ],
        }

    def _check(self, body: ListBody) -> None:
        served, limits = self.served, self._limits
        if (body.user is None) == (body.history is None):
            raise RequestError("user and history: give one of them, a user's id or the items that a new one bought.")
        if not 1 <= body.k <= limits.k:
            raise RequestError(f"k: a list has 1 to {limits.k} items here.")
        if body.user is not None and body.user not in served.users:
            raise HTTPException(
                404, f"Unknown user {body.user[:100]!r}: give a new user by the items that they bought."
            )
        if body.history is not None and not 0 < len(body.history) <= limits.history:
            raise RequestError(f"history: {len(body.history)} items; give 1 to {limits.history}, the newest last.")
        for items in (body.history, body.allow, body.deny):
            served.check_items(items or [])

    def _lists(self, asked: Sequence[Asked]) -> list[tuple[Served, Columns | Exception]]:
        """In the thread of the queue; all are from one that is served."""
        served = self.served
        return [(served, found) for found in lists_of(served.recommender, asked)]

    # -- changes ----------------------------------------------------------------------------------------------------

    async def take(self, items: Sequence[ItemBody]) -> dict:
        """Take new items into what is served; lists are made meanwhile.

        Raises
        ------
        HTTPException
            If another change is under way, or the foundation model is not at hand.
        PerPEFTError
            If they cannot be taken.
        """
        async with self._change():
            served, queue = self.served, self._queue
            check_items(items, served, self._limits)
            with TemporaryDirectory() as folder:
                place = Path(folder)
                try:
                    file, settings = await self._aside(
                        write_items, items, served.recommender.config, place, self._limits
                    )
                    read = await self._aside(served.recommender.read_items, file, settings)
                    loop = asyncio.get_running_loop()
                    taken = await loop.run_in_executor(queue.thread, served.recommender.take_items, read)
                except (BundleError, EncoderError) as error:
                    getLogger().warning(f"New items are not taken: {error}")
                    words = "The foundation model that reads items is not at hand; the service's log says why."
                    raise HTTPException(409, words) from error
                except PerPEFTError as error:
                    raise RequestError(str(error).replace(f"{folder}/", "")) from error
        return {"taken": taken, "items": len(served.recommender.catalogue) - 1, "served": served.number}

    async def reload(self) -> str | None:
        """Open anew, beside what is served, and serve that; gives why not, where it cannot be opened.

        Raises
        ------
        HTTPException
            If another change is under way.
        """
        async with self._change():
            number = self.served.number + 1
            try:
                self.served = await self._aside(lambda: Served.of(self._opener(), number, self._has_page))
            except Exception as error:
                self.metrics.reloads["refused"] += 1
                known = isinstance(error, PerPEFTError)
                getLogger().error(f"Not opened: {error}", exc_info=None if known else error)
                why = str(error) if known else "The service's log says why."
                return f"It does not open, and what was served goes on. {why}"
            self.metrics.reloads["opened"] += 1
            return None

    async def _aside(self, function: Callable, *args: object):
        return await asyncio.get_running_loop().run_in_executor(self._beside, function, *args)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        if self._changing.locked():
            raise HTTPException(409, "Another change is under way: ask again when it has ended.")
        async with self._changing:
            yield

    # -- what is so -------------------------------------------------------------------------------------------------

    def health(self) -> dict:
        """What is served, in words and numbers."""
        served, config = self.served, self.served.recommender.config
        return {
            "status": "ok",
            "model": config["model"],
            "dataset": config["dataset"],
            "users": len(served.users),
            "items": len(served.recommender.catalogue) - 1,
            "groups": served.groups,
            "title": served.title,
            "served": served.number,
        }

    def gauges(self) -> dict[str, tuple[str, int]]:
        """What is so now, for the metrics."""
        served = self.served
        return {
            "users": ("Users who are known.", len(served.users)),
            "items": ("Items of the catalogue.", len(served.recommender.catalogue) - 1),
            "served": ("The how manieth bundle is served, from 1.", served.number),
            "waiting": ("Requests for lists that wait.", len(self._queue)),
        }


def _options(body: ListBody, columns: list[str], group: bool) -> tuple[tuple[str, object], ...]:
    """Of :class:`~recbole_perpeft.serving.list_options.ListOptions`, as texts and tuples."""
    where = {name: (values,) if isinstance(values, str) else tuple(values) for name, values in body.where.items()}
    return (
        ("k", body.k),
        ("seen", body.seen),
        ("allow", None if body.allow is None else tuple(body.allow)),
        ("deny", None if body.deny is None else tuple(body.deny)),
        ("where", tuple(sorted(where.items()))),
        ("columns", tuple(columns)),
        ("group", group),
        ("by_group", body.by_group),
    )
