"""``python -m recbole_perpeft serve``: lists of items over HTTP."""

import argparse
import gc
import socket
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from recbole_perpeft.config.settings import settings_of
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.serving.service.limits import Limits
from recbole_perpeft.utils.errors import RequestError

DESCRIPTION = """Serve lists of items over HTTP, by what a run has trained.

  python -m recbole_perpeft serve bundles/MODEL
  curl 127.0.0.1:8000/recommend -H 'Content-Type: application/json' -d '{"user": "u00001", "k": 5}'

http://127.0.0.1:8000/ is a page that shows a user's purchases and what each group's module has for them, /docs tells of
all requests. Nobody is asked who they are: what callers of elsewhere may reach stands behind a server that does.
Settings of this machine, such as data_path (where the pictures are) and encoder (which reads new items), are given as
--key=value."""


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    known, words = _parser().parse_known_args(arguments)
    try:
        import uvicorn

        from recbole_perpeft.serving.service.app import create_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "recbole_perpeft":
            raise
        raise RequestError(f'serve needs the package {error.name}: pip install "recbole-perpeft[serve]".') from error
    limits = Limits(k=known.max_k, history=known.max_history, body=known.max_body)
    opener = partial(Recommender.load, known.file, settings_of(words))
    with closing(_bound(known.host, known.port)) as listening:  # before the model is opened: the port may be taken
        app = create_app(opener, limits, not known.no_page, known.host)
        gc.collect()
        gc.freeze()  # what is there now stays: to look through it again and again makes requests wait
        listening.listen()  # who reads the next line may ask at once
        host, port = listening.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        print(f"Serving {known.file} on http://{address}/ until Ctrl+C", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
        with suppress(KeyboardInterrupt):  # the usual end
            uvicorn.Server(config).run(sockets=[listening])
    return 0


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:  # which the system would cut to another
        raise RequestError(f"--port: {port} is no port: give 1 to 65535, or 0 for any that is free.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise RequestError(f"--host {host} --port {port}: cannot be listened on ({error}). Give others.") from error
    return listening


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft serve", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file", type=Path, help="a bundle's folder, or a checkpoint")
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any that is free")
    parser.add_argument(
        "--max_k", type=int, default=Limits.k, metavar="N", help="items of a list (default: %(default)s)"
    )
    parser.add_argument("--max_history", type=int, default=Limits.history, metavar="N",
                        help="items of a new user's history (default: %(default)s)")  # fmt: skip
    parser.add_argument("--max_body", type=int, default=Limits.body, metavar="BYTES",
                        help="of a request (default: %(default)s)")  # fmt: skip
    parser.add_argument("--no_page", action="store_true", help="without the page, which shows what users bought")
    return parser
