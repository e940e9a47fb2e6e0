"""Reading files of one JSON object a line, packed or not, as streams: what is read is never in memory as a whole."""

import json
import queue
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from tqdm import tqdm

from recbole_perpeft.utils.errors import DataError

_GZIP = b"\x1f\x8b"
_READ = 1 << 20  # bytes of the file at a time
_LONGEST = 1 << 26  # bytes of a line
_AHEAD = 4  # blocks that are unpacked before they are asked for


def records(path: Path, kind: type[msgspec.Struct], show_progress: bool = True) -> Iterator[list]:
    """Read the objects of ``path``, in blocks; fields that ``kind`` does not name are passed over.

    A file that begins as gzip files do is unpacked, whatever its name is, in a thread beside.

    Raises
    ------
    DataError
        Names the file and the line that is no such object, or says that the file is damaged or cut short.
    """
    decoder, number = msgspec.json.Decoder(kind), 0
    for block in _whole_lines(path, show_progress):
        try:
            found = decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = [_record(path, number + at, line, kind) for at, line in enumerate(block.split(b"\n"), 1) if line]
        yield found
        number += block.count(b"\n")


def _record(path: Path, number: int, line: bytes, kind: type) -> msgspec.Struct:
    """One line, by a reader that takes half characters too, as Python's writer leaves them."""
    try:
        return msgspec.convert(json.loads(line), kind)
    except msgspec.ValidationError as error:
        cure = "Is it a file of another kind?" if number == 1 else "Correct the line, or leave it out."
        raise DataError(f"{path}, line {number}: {error}. {cure}") from error
    except ValueError as error:
        cut = (
            ""
            if line.rstrip().endswith(b"}")
            else " It ends before its end: the file may be cut short; fetch it again."
        )
        raise DataError(f"{path}, line {number} is no JSON ({error}): {line[:60]!r}.{cut}") from error


def _whole_lines(path: Path, show_progress: bool) -> Iterator[bytes]:
    rest = b""
    for block in _beside(_unpacked(path, show_progress)):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
        if len(rest) > _LONGEST:
            raise DataError(
                f"{path} has a line of more than {_LONGEST:,} bytes: it has to have one JSON object a line."
            )
    if rest.strip():
        yield rest


def _unpacked(path: Path, show_progress: bool) -> Iterator[bytes]:
    """The bytes of a file, unpacked where it is packed; several packed parts may follow one another."""
    try:
        with (
            open(path, "rb") as file,
            tqdm(total=path.stat().st_size, desc=f"Read {path.name}", unit="B", unit_scale=True, ncols=100,
                 disable=not show_progress) as bar,
        ):  # fmt: skip
            packed, unpack = file.peek(2)[:2] == _GZIP, None
            while block := file.read(_READ):
                bar.update(len(block))
                if not packed:
                    yield block
                    continue
                while block := block if unpack else block.lstrip(b"\0"):  # zeros may fill up the end of a part
                    unpack = unpack or zlib.decompressobj(wbits=31)
                    yield unpack.decompress(block)
                    block = unpack.unused_data
                    if unpack.eof:
                        unpack = None
            if unpack:
                raise DataError(f"{path} is cut short: its packed data end before their end. Fetch it again.")
    except zlib.error as error:
        raise DataError(f"{path} is damaged, at byte {bar.n:,} or before: {error}. Fetch it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _beside(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same, made in a thread: unpacking is done while what came before is read."""
    ready: queue.Queue = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(one: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(one, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            if all(put(block) for block in blocks):
                put(None)
        except BaseException as error:  # which the reader raises
            put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (block := ready.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            yield block
    finally:
        stopped.set()
        thread.join()
