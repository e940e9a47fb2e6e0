"""Answers in JSON; what cannot be met is an ``error`` in a sentence."""

import json
from logging import getLogger

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recbole_perpeft.serving.service.queue import Busy
from recbole_perpeft.utils.errors import PerPEFTError

_SHOWN = 5  # faults of a body that are told
_LONGEST = 2000


def answer(content: object, status: int = 200, headers: dict | None = None) -> Response:
    """``content`` as JSON; all that is not ASCII is escaped, so any text that came in can go out."""
    return Response(json.dumps(content, allow_nan=False), status, headers, "application/json")


def refusal(status: int, words: str, headers: dict | None = None) -> Response:
    """A request that is not met, and why."""
    return answer({"error": words[:_LONGEST]}, status, headers)


def speak_json(app: FastAPI) -> None:
    """Let all that goes wrong be told in this form, and nothing of the program."""

    @app.exception_handler(PerPEFTError)
    async def unmet(request: Request, error: PerPEFTError) -> Response:
        return refusal(422, str(error))

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        return refusal(503, "Too many requests wait: come again in a second.", {"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> Response:
        faults = error.errors()
        if any(fault["type"] == "json_invalid" for fault in faults):
            return refusal(400, "The body is not JSON.")
        if "json" not in request.headers.get("content-type", "") and any(fault["loc"] == ("body",) for fault in faults):
            return refusal(422, "The body: send it as JSON, with Content-Type: application/json.")
        return refusal(422, " ".join(_sentence(fault) for fault in faults[:_SHOWN]))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        getLogger().error(f"{request.method} {request.url.path} failed", exc_info=error)
        return refusal(500, "The service failed at this request; its log says how.")


def _sentence(fault: dict) -> str:
    where = ".".join(str(word)[:100] for word in fault["loc"][1:]) or "The body"
    return f"{where}: {fault['msg']}."
