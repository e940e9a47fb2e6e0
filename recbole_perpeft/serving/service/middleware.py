"""What stands before all routes: how large a body may be, and the clock."""

import time

from starlette.exceptions import HTTPException

from recbole_perpeft.serving.service.answers import refusal
from recbole_perpeft.serving.service.metrics import Metrics


class BodyLimit:
    """Refuses bodies of more than ``most`` bytes, announced or not, without keeping them."""

    def __init__(self, app, most: int):
        self._app, self._most = app, most
        self._words = f"The body has more than {most:,} bytes, which are the most that are taken."

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length, seen = dict(scope["headers"]).get(b"content-length", b"0"), 0
        if not length.isdigit() or int(length) > self._most:
            await refusal(413, self._words)(scope, receive, send)
            return

        async def counted() -> dict:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise HTTPException(413, self._words)
            return message

        await self._app(scope, counted, send)


class Clock:
    """Tells the metrics of every answer: its route, status and seconds."""

    def __init__(self, app, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noted(message: dict) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            path = getattr(scope.get("route"), "path", "other")  # callers may make up any number of others
            self._metrics.answered(path, status, time.perf_counter() - start)
