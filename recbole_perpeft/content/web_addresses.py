"""URLs and network addresses: which of them may be fetched."""

import ipaddress
from typing import NamedTuple

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from recbole_perpeft.content.failed_downloads import FetchError

PORTS = {"http": 80, "https": 443}


class Target(NamedTuple):
    """The parts of a URL."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """The host as a request names it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


def parse(url: str) -> Target:
    """The parts of a URL.

    Raises
    ------
    FetchError
        If it is none, or not of http or https.
    """
    try:
        parts = parse_url(url.strip())
    except LocationParseError:
        raise FetchError("no URL", "never") from None
    if parts.scheme not in PORTS or not parts.host:
        raise FetchError("no URL that begins with http:// or https://", "never")
    if parts.auth:
        raise FetchError("a URL with a user's name in it is not fetched", "never")
    return Target(parts.scheme, parts.host.strip("[]").lower(), parts.port or PORTS[parts.scheme], parts.request_uri)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, those that are wrapped into another included."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_link_local)
