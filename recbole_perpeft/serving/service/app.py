"""The service: which requests there are, and what answers them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.responses import Response

import recbole_perpeft
from recbole_perpeft.serving.service.answers import answer, refusal, speak_json
from recbole_perpeft.serving.service.bodies import ItemsBody, ListBody
from recbole_perpeft.serving.service.limits import Limits
from recbole_perpeft.serving.service.middleware import BodyLimit, Clock, HeadAsGet, OwnPages
from recbole_perpeft.serving.service.pages import add_interface, add_page
from recbole_perpeft.serving.service.served import Opener
from recbole_perpeft.serving.service.shop import Shop

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def create_app(opener: Opener, limits: Limits | None = None, page: bool = True, host: str = "127.0.0.1") -> FastAPI:
    """The service as an ASGI application.

    Parameters
    ----------
    opener
        Opens what is served, now and at every reload.
    limits
        What a request may be at most.
    page
        Whether there is the page, which shows what users bought.
    host
        Where it is reached. On this machine alone it answers to its own names only, so that no page of another site
        can ask it by a name that leads here.

    Raises
    ------
    PerPEFTError
        If there is nothing to open.
    """
    limits = limits or Limits()
    shop = Shop(opener, limits, page)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        shop.start()
        yield
        await shop.stop()

    app = FastAPI(
        title="recbole_perpeft", version=recbole_perpeft.__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    speak_json(app)
    _add_requests(app, shop)
    add_interface(app)
    if page:
        add_page(app, shop)
    app.add_middleware(BodyLimit, most=limits.body)
    app.add_middleware(OwnPages, hosts=_LOOPBACK if host in (*_LOOPBACK, "::1") else None)
    app.add_middleware(Clock, metrics=shop.metrics)
    app.add_middleware(HeadAsGet)
    return app


def _add_requests(app: FastAPI, shop: Shop) -> None:
    @app.post("/recommend")
    async def recommend(body: ListBody) -> Response:
        """The best items for a user who is known, or for a new one by their history."""
        return answer(await shop.recommend(body))

    @app.post("/items")
    async def items(body: ItemsBody) -> Response:
        """Take new items by their pictures and titles; nothing is trained. A reload forgets them."""
        return answer(await shop.take(body.items))

    @app.post("/reload")
    async def reload() -> Response:
        """Open the bundle again, beside the one that is served, and let it take its place."""
        error = await shop.reload()
        return answer(shop.health()) if error is None else refusal(409, error)

    @app.get("/health")
    async def health() -> Response:
        """What is served."""
        return answer(shop.health())

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(shop.metrics.text(shop.gauges()), media_type=_TEXT)
