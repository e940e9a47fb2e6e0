"""One GET of a URL that strangers wrote into a file: from public hosts only, within limits of bytes and of time."""

import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPException, responses
from typing import NamedTuple
from urllib.parse import urljoin

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from recbole_perpeft.content.failed_downloads import FetchError
from recbole_perpeft.content.web_addresses import Target, is_public, parse

_REDIRECTS = (301, 302, 303, 307, 308)
_OVERLOADED = (408, 425, 429, 500, 502, 503, 504)
_REFUSED = (401, 403, 407, 451)  # of this client, perhaps for a while
_CHUNK = 1 << 16  # bytes
_KEPT_CONNECTIONS = 4
_HEADERS = {"User-Agent": "recbole-perpeft", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}


class Body(NamedTuple):
    """What a URL gave; ``whole`` is False where nothing told how long it should be."""

    data: bytes
    whole: bool


class Client:
    """Fetches URLs, one at a time; a few connections stay open for the next.

    The name is looked up once for each connection. The connection goes to the very address that was checked, with the
    name in the request and in TLS, so that a name with two faces gains nothing. No proxy is used.

    Parameters
    ----------
    max_bytes
        Of a body.
    connect_timeout, read_timeout
        Seconds to connect, and between two pieces of an answer.
    total_timeout
        Seconds for one answer in all (the look-up of the name is the system's and not counted in).
    max_redirects
        How many are followed; each is checked as the first URL.
    private_hosts
        Hosts, as URLs name them, that may have private addresses.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        connect_timeout: float,
        read_timeout: float,
        total_timeout: float,
        max_redirects: int,
        private_hosts: Collection[str],
    ):
        self.max_bytes, self.max_redirects = max_bytes, max_redirects
        self._connect_timeout, self._read_timeout, self._total_timeout = connect_timeout, read_timeout, total_timeout
        self._private_hosts = {host.lower() for host in private_hosts}
        self._tls = ssl.create_default_context()
        self._connections: dict[tuple[str, str, int], HTTPConnection] = {}
        self._guard: _Guard | None = None  # of the request that runs
        self._aborted = False

    def fetch(self, url: str) -> Body:
        """The body of a URL.

        Raises
        ------
        FetchError
            If there is none, or a limit forbids it.
        """
        for _ in range(self.max_redirects + 1):
            answer = self._get(parse(url))
            if isinstance(answer, Body):
                return answer
            url = urljoin(url, answer)
        raise FetchError(f"redirected to {_shown(url)}, beyond the {self.max_redirects} that are followed", "later")

    def close(self) -> None:
        """Close all connections."""
        while self._connections:
            self._connections.popitem()[1].close()

    def abort(self) -> None:
        """End what another thread is fetching, and let it fetch no more."""
        self._aborted = True
        guard = self._guard
        if guard is not None:
            guard.shut()

    def _get(self, target: Target) -> Body | str:
        """The body, or where it is said to be."""
        key = target[:3]
        connection = self._connections.pop(key, None)
        if connection is not None and not connection.is_connected:  # the server has closed it since
            connection.close()
            connection = None
        done = False
        try:
            with self._deadline() as guard:
                connection = connection or self._connect(target, guard)
                guard.watch(connection)
                answer = self._ask(connection, target)
            done = isinstance(answer, Body)
            return answer
        finally:
            if done and connection.sock is not None:
                self._keep(key, connection)
            elif connection is not None:
                connection.close()  # with what is still to come of its answer

    def _keep(self, key: tuple[str, str, int], connection: HTTPConnection) -> None:
        self._connections[key] = connection
        while len(self._connections) > _KEPT_CONNECTIONS:
            self._connections.pop(next(iter(self._connections))).close()

    @contextmanager
    def _deadline(self) -> Iterator["_Guard"]:
        """Cut what takes longer in all, however it dribbles, and give every error of the libraries as one of ours."""
        guard = self._guard = _Guard(self._total_timeout)
        if self._aborted:
            guard.shut()
        try:
            yield guard
            guard.check()
        except FetchError:
            guard.check()
            raise
        except (HTTPError, HTTPException, OSError, ValueError) as error:  # ValueError: what no request can be made of
            guard.check()
            raise FetchError(_reason(error), "later" if _is_for_good(error) else "soon") from error
        finally:
            guard.end()
            self._guard = None

    def _connect(self, target: Target, guard: "_Guard") -> HTTPConnection:
        error: Exception | None = None
        for address in self._addresses(target):
            guard.check()
            connection = self._made(target, address)
            guard.watch(connection)
            try:
                connection.connect()
            except (HTTPError, OSError) as problem:
                connection.close()
                if isinstance(problem, ssl.SSLError):
                    raise
                error = problem
                continue
            connection.timeout = self._read_timeout
            return connection
        raise error or FetchError(f"{target.host} has no address", "soon")

    def _made(self, target: Target, address: str) -> HTTPConnection:
        if target.scheme == "http":
            return HTTPConnection(address, target.port, timeout=self._connect_timeout)
        return HTTPSConnection(
            address, target.port, timeout=self._connect_timeout, ssl_context=self._tls, server_hostname=target.host
        )

    def _addresses(self, target: Target) -> list[str]:
        """The addresses of a host; one that must not be reached forbids them all."""
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        if target.host not in self._private_hosts:
            for address in addresses:
                if not is_public(address):
                    raise FetchError(f"{target.host} is at {address}, which is no public address", "later")
        return addresses

    def _ask(self, connection: HTTPConnection, target: Target) -> Body | str:
        headers = {**_HEADERS, "Host": target.host_header}
        connection.request("GET", target.path, headers=headers, preload_content=False, decode_content=False)
        response = connection.getresponse()
        status, location = response.status, response.headers.get("Location")
        if status in _REDIRECTS and location:
            return location
        if status != 200:
            again = "soon" if status in _OVERLOADED else "later" if status in _REFUSED or status < 400 else "never"
            raise FetchError(f"HTTP {status} {responses.get(status, '')}".strip(), again, _wait(response))
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":  # which could unpack to any size
            raise FetchError(f"sent as {_shown(encoding)}, which was not asked for", "later")
        length = response.length_remaining
        if length is not None and length > self.max_bytes:
            raise self._too_large(f"{length:,}")
        data = bytearray()
        while piece := response.read1(_CHUNK):
            data += piece
            if len(data) > self.max_bytes:
                raise self._too_large(f"more than {self.max_bytes:,}")
        return Body(bytes(data), length is not None or response.chunked)

    def _too_large(self, size: str) -> FetchError:
        return FetchError(f"{size} bytes where {self.max_bytes:,} are allowed", "later")


class _Guard:
    """Shuts a connection when its time is over, wherever it waits."""

    def __init__(self, seconds: float):
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._connection: HTTPConnection | None = None
        self._timer = threading.Timer(seconds, self.shut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connection: HTTPConnection) -> None:
        self._connection = connection
        self.check()

    def check(self) -> None:
        if time.monotonic() >= self._end:
            raise FetchError(f"took longer than {self._seconds:g} s in all", "soon")

    def end(self) -> None:
        self._timer.cancel()

    def shut(self) -> None:
        """Whoever waits for the connection gets an error, or the end of the data."""
        self._end = 0.0
        opened = self._connection and self._connection.sock
        if opened:
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(opened, socket.SHUT_RDWR)  # of TLS too, without a word to the other side


def _wait(response) -> float:
    """Seconds that ``Retry-After`` asks for; it holds seconds or a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _is_for_good(error: Exception) -> bool:
    """Whether it would be the same in a few seconds."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ssl.SSLCertVerificationError) or not isinstance(error, HTTPError | HTTPException | OSError)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror})"
    return _shown(f"the connection failed ({type(error).__name__}: {error})")


def _shown(text: str, length: int = 200) -> str:
    """What a server has said, fit for a terminal."""
    text = "".join(mark if mark.isprintable() else "?" for mark in text[: length + 1])
    return text if len(text) <= length else text[:length] + "…"
