"""A web server on 127.0.0.1 that behaves as badly as some do."""

import io
import struct
import threading
import time
import zlib
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), seed: int = 0) -> bytes:
    """A picture of random blocks as the bytes of a file; `size` is (width, height)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size).save(file, kind)
    return file.getvalue()


def header_of_a_bomb() -> bytes:
    """The first bytes of a PNG that says it has 60,000 x 60,000 pixels, and nothing after them."""
    content = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.split("?")[0].strip("/")
        with self.server.lock:
            self.server.asked[name] += 1
            self.server.hosts.append(self.headers["Host"])
        with suppress(OSError):  # of a client that has left
            getattr(self, f"_{name}", self._missing)()

    def answer(self, body: bytes, status: int = 200, kind: str = "image/png", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        headers = {"Content_Length": str(len(body)), **headers}
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _missing(self):
        self.answer(b"nothing here", 404, "text/plain")

    def _png(self):
        self.answer(picture())

    def _large(self):
        self.answer(picture("JPEG", (900, 600)), kind="image/jpeg")

    def _flat(self):  # of one colour: smaller as it is than as JPEG
        file = io.BytesIO()
        Image.new("RGB", (900, 600), "red").quantize(2).save(file, "PNG", optimize=True)
        self.answer(file.getvalue())

    def _wrong_type(self):
        self.answer(picture("WEBP"), kind="text/html; charset=utf-8")

    def _html(self):
        self.answer(b"<html>Please log in</html>")

    def _empty(self):
        self.answer(b"")

    def _bomb(self):
        self.answer(header_of_a_bomb())

    def _zipped(self):
        self.answer(zlib.compress(picture()), Content_Encoding="deflate")

    def _odd(self):
        self.answer(picture(), Content_Encoding="\x1b[31mred")

    def _huge(self):
        self.answer(b"", Content_Length=str(10**12))

    def _endless(self):
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b"x" * 10_000)

    def _slow(self):
        self.server.leave.wait(5)

    def _dribble(self):
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100:
            self.wfile.write(bytes([byte]))
            if self.server.leave.wait(0.05):
                return

    def _drop(self):
        self.close_connection = True

    def _truncated(self):
        self.close_connection = True
        self.answer(picture()[:200], Content_Length="100000")

    def _truncated_once(self):
        if self.server.asked["truncated_once"] > 1:
            return self._png()
        self._truncated()

    def _stalled_once(self):
        if self.server.asked["stalled_once"] > 1:
            return self._png()
        self.close_connection = True
        self.answer(picture()[:200], Content_Length=str(len(picture())))
        self.server.stalled.set()
        self.server.leave.wait(60)

    def _cut_without_length(self):
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        self.wfile.write(picture()[:200])

    def _chunks(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = picture()
        for start in range(0, len(body), 100):
            piece = body[start : start + 100]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _busy_once(self):
        if self.server.asked["busy_once"] > 1:
            return self._png()
        self.answer(b"", 429, Retry_After="1")
        self.server.asked_to_wait = time.monotonic()

    def _busy_for_an_hour(self):
        self.answer(b"", 503, Retry_After="3600")

    def _broken_once(self):
        if self.server.asked["broken_once"] > 1:
            return self._png()
        self.answer(b"", 500)

    def _broken(self):
        self.answer(b"", 500)

    def _forbidden(self):
        self.answer(b"", 403)

    def _redirect(self):
        self.answer(b"", 302, Location="/png")

    def _redirect_to_itself(self):
        self.answer(b"", 301, Location="/redirect_to_itself")

    def _redirect_to_private(self):
        self.answer(b"", 302, Location=f"http://127.0.0.2:{self.server.server_port}/png")

    def _redirect_to_file(self):
        self.answer(b"", 302, Location="file:///etc/hostname")

    def log_message(self, *_):
        pass


class BadServer(ThreadingHTTPServer):
    """Serves :class:`Handler` in threads until it is closed.

    Attributes
    ----------
    asked : Counter
        How often each path was asked for.
    hosts : list of str
        The Host header of each request.
    stalled : threading.Event
        Set when half a picture was sent, after which nothing follows.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.hosts, self.lock, self.leave = Counter(), [], threading.Lock(), threading.Event()
        self.stalled = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.leave.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_):
        """Clients that leave in the middle are what is tested."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"
