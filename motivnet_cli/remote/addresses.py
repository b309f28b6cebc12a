"""Which addresses a web request may go to: none that a stranger's URL or redirect should reach from this machine.

Names are looked up before the request, and the answer is kept: a server of names that changes its answer in between is
not found out. Where a proxy makes the connection, it also looks up the name, and only addresses that are spelt out are
known here.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from motivnet_cli.remote.retries import PrivateAddressError, RefusedError

if TYPE_CHECKING:
    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check(url: str, *, start: str | None, allow_private: bool, by_proxy: bool) -> None:
    """Refuse what a stranger's URL or redirect should not reach, before it is asked for.

    Link-local addresses are refused: at 169.254.169.254, clouds answer with the credentials of the machine. Of
    redirects, those that lead out of the public network into a private one, or from https to http.

    Args:
        url: As requests has prepared it.
        start: The URL that was redirected to it; None where there was none.
        allow_private: Refuse no address.
        by_proxy: The connection is a proxy's.

    Raises:
        PrivateAddressError: The address is refused.
        RefusedError: It leads from https to http.
    """
    if start and start.startswith("https:") and not url.startswith("https:"):
        raise RefusedError(
            "refused_url",
            "is redirected from https to http, which anybody on the way can read and change: give that address itself "
            "if it is right",
        )
    if allow_private:
        return
    host = urlsplit(url).hostname or ""
    found = _addresses_in(url, by_proxy=by_proxy)
    if any(address.is_link_local for address in found):
        raise PrivateAddressError(f"is not read: {host} is a link-local address")
    if start and any(map(_is_private, found)) and not _begins_in_private(start, by_proxy=by_proxy):
        raise PrivateAddressError(f"is redirected to {host}, an address of this machine or of a private network")


def _begins_in_private(start: str, *, by_proxy: bool) -> bool:
    """Whether a URL has private addresses alone: a stranger can give his own name one beside a public one."""
    found = _addresses_in(start, by_proxy=by_proxy)
    return bool(found) and all(map(_is_private, found))


def _is_private(address: Address) -> bool:
    return not address.is_global


def _addresses_in(url: str, *, by_proxy: bool) -> list[Address]:
    """The addresses that a URL's host has; none where they are not known, and the request itself says why."""
    host = urlsplit(url).hostname or ""
    try:
        found = [host] if by_proxy else addresses_of(host)
        return [_plain(ipaddress.ip_address(address.partition("%")[0])) for address in found]
    except (OSError, ValueError):
        return []


@functools.lru_cache(maxsize=1024)
def addresses_of(host: str) -> tuple[str, ...]:
    """The addresses of a host as the system looks them up, which also knows `127.1` and `0x7f000001`.

    Raises:
        OSError: It has none.
        ValueError: It cannot be one's name.
    """
    return tuple(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one, as itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address
