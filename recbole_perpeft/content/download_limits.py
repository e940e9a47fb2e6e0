"""What a download of pictures may take, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_perpeft.utils.errors import ContentError


@dataclass(frozen=True)
class DownloadLimits:
    """What a download may take.

    Attributes
    ----------
    workers : int
        Pictures that are fetched at the same time.
    shorter_side : int
        Pixels; larger pictures are scaled down to that. Encoders of today see 224 to 512.
    quality : int
        Of the JPEG files that scaled pictures become. A file that is smaller as it came stays as it came.
    max_bytes, max_pixels : int
        Of a picture as it comes.
    retries : int
        Further tries where another may help.
    connect_timeout, read_timeout, total_timeout : float
        Seconds to connect, between two pieces of an answer, and for one answer in all.
    longest_wait : float
        Seconds that a server may ask to wait (``Retry-After``); where it asks for more the picture is left.
    max_redirects : int
        How many are followed from one URL.
    private_hosts : sequence of str
        Hosts, as URLs name them, that may have private addresses, such as a shop's own server.
    """

    workers: int = 16
    shorter_side: int = 512
    quality: int = 90
    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    retries: int = 3
    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    total_timeout: float = 60.0
    longest_wait: float = 60.0
    max_redirects: int = 0
    private_hosts: Sequence[str] = ()

    def __post_init__(self):
        for name in ("workers", "shorter_side", "max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ContentError(f"{name}: {getattr(self, name)} is not possible: set 1 or more.")
        for name in ("connect_timeout", "read_timeout", "total_timeout"):
            if not getattr(self, name) > 0:
                raise ContentError(f"{name}: {getattr(self, name)} is not possible: set seconds above 0.")
        for name in ("retries", "longest_wait", "max_redirects"):
            if not getattr(self, name) >= 0:
                raise ContentError(f"{name}: {getattr(self, name)} is not possible: set 0 or more.")
        if not 1 <= self.quality <= 95:
            raise ContentError(f"quality: {self.quality} is not possible: set 1 to 95.")


@dataclass
class DownloadReport:
    """What became of the items.

    Attributes
    ----------
    files : dict[str, str]
        Item id to the name of its picture in the folder.
    failed : dict[str, str]
        Item id to the reason why it has none.
    fetched : int
        How many of ``files`` were not there before.
    again : int
        How many of ``failed`` the same call will try again.
    listed_in : Path
        The file that says of each URL why it failed; there only where something has failed.
    """

    listed_in: Path
    files: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    fetched: int = 0
    again: int = 0

    def __str__(self) -> str:
        there = len(self.files) - self.fetched
        text = (
            f"Pictures: {len(self.files):,} of {len(self.files) + len(self.failed):,} items have one in "
            f"{self.listed_in.parent} ({self.fetched:,} fetched now, {there:,} there before)."
        )
        if self.failed:
            again = f"{self.again:,}" if self.again else "none"
            text += (
                f" {len(self.failed):,} have none: {self.listed_in} says why. The same command tries {again} of them "
                "again; to try all, delete that file first."
            )
        return text
