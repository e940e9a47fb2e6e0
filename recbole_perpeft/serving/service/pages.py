"""The pages: the shop as each group sees it, and the interface; their scripts are in the package."""

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from recbole_perpeft.serving.service.answers import answer
from recbole_perpeft.serving.service.pictures import TYPES
from recbole_perpeft.serving.service.shop import Shop

_FOLDER = Path(__file__).parent / "page"
_SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}
_SHOWN_USERS = 100


def add_interface(app: FastAPI) -> None:
    """``/docs``: all requests, on a page of ours; FastAPI's own loads its scripts from elsewhere."""
    _add_file(app, "/docs", "docs.html")
    _add_file(app, "/docs.js", "docs.js")
    _add_file(app, "/page.css", "page.css")


def add_page(app: FastAPI, shop: Shop) -> None:
    """``/``: a user, what they bought, and what each group's module has for them."""
    _add_file(app, "/", "page.html")
    _add_file(app, "/page.js", "page.js")

    @app.get("/users")
    async def users(start: str = "") -> Response:
        """The first ids of users that begin with ``start``."""
        found = [user for user in shop.served.users if user.startswith(start)]
        return answer({"users": found[:_SHOWN_USERS], "found": len(found)})

    @app.get("/users/{user:path}")
    async def user(user: str) -> Response:
        """What a user bought, oldest first."""
        served = shop.served
        if user not in served.users:
            raise HTTPException(404, f"Unknown user {user[:100]!r}.")
        catalogue, items = served.recommender.catalogue, served.recommender.history(user)
        titles = catalogue.column(served.title)[catalogue.numbers(items)] if served.title else items
        told = zip(items, titles, strict=True)
        return answer(
            {"user": user, "history": [{"item": i, "title": t, "picture": served.picture(i)} for i, t in told]}
        )

    @app.get("/pictures/{item:path}")
    async def picture(item: str) -> Response:
        """A known item's picture."""
        file = shop.served.pictures.get(item)  # an id that is looked up, no path
        if file is None or not file.is_file():
            raise HTTPException(404, "There is no picture of such an item.")
        return FileResponse(file, media_type=TYPES[file.suffix.lower()], headers=_SAFE)


def _add_file(app: FastAPI, path: str, name: str) -> None:
    @app.get(path, include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_FOLDER / name, headers=_SAFE)
