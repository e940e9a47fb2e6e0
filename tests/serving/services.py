"""Services of bundles, asked inside this process."""

import asyncio
from contextlib import contextmanager
from functools import partial

import httpx
from fastapi.testclient import TestClient

from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.serving.service.app import create_app
from recbole_perpeft.serving.service.limits import Limits


def app_of(bundle, data_path, page=True, **limits):
    """The application that serves ``bundle``; its pictures and the encoder are below ``data_path``."""
    opener = partial(Recommender.load, bundle, {"data_path": str(data_path)})
    return create_app(opener, Limits(**limits), page)


@contextmanager
def client_of(*args, **kwargs):
    """A client of :func:`app_of`; an error inside the service is an answer of status 500, as it is to others."""
    with TestClient(app_of(*args, **kwargs), "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def together(app, talk):
    """What ``await talk(client)`` gives, where ``client`` can ask for several things at a time."""

    async def run():
        transport = httpx.ASGITransport(app)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
        async with app.router.lifespan_context(app), client:
            return await talk(client)

    return asyncio.run(run())
