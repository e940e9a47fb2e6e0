"""What stands before all routes: HEAD, whom a browser may ask for, how large a body may be, and the clock."""

import time

from starlette.exceptions import HTTPException

from recbole_perpeft.serving.service.answers import refusal
from recbole_perpeft.serving.service.metrics import Metrics


class HeadAsGet:
    """Answers HEAD as GET, as HTTP asks of all servers (RFC 9110, 9.1); the server sends no body then."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class OwnPages:
    """Refuses what a page of another site lets its reader's browser send.

    Parameters
    ----------
    hosts
        The names that the service answers to, so that no other name can be made to lead here; None: any.
    """

    def __init__(self, app, hosts: tuple[str, ...] | None):
        self._app, self._hosts = app, hosts

    async def __call__(self, scope, receive, send) -> None:
        app = self._app
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            host, origin = headers.get(b"host", ""), headers.get(b"origin")
            name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
            if self._hosts is not None and name not in self._hosts:
                app = refusal(400, f"This service answers to {', '.join(self._hosts)} only.")
            elif origin is not None and origin.partition("://")[2] != host:
                app = refusal(403, "Pages of another site may not ask.")
        await app(scope, receive, send)


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
