"""Requests to web servers: headers, what statuses and failures mean, and how a broken read goes on.

No message holds the secrets of a URL, and errors of requests are not chained, because their texts hold whole URLs.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import time
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from errno import EADDRNOTAVAIL, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from motivnet_cli.remote import addresses
from motivnet_cli.remote.retries import InterruptedTryError, RefusedError
from motivnet_cli.remote.urls import direct_url, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motivnet_cli.errors import ErrorType

TIMEOUT_SECONDS = (10.0, 60.0)
"""For a connection, and for the next bytes."""
_HEADERS = {
    # An encoded answer has neither the size nor the ranges of the file.
    "Accept-Encoding": "identity",
    # Share hosts show some of their pages to browsers only.
    "User-Agent": "Mozilla/5.0 (compatible; motivnet-cli)",
}
_CHUNK_BYTES = 1 << 16  # also the most that a dropped connection can lose
_BANDWIDTH_LIMIT_EXCEEDED = 509  # not registered, sent by SharePoint and shared hosts
_NO_CONNECTION = {ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL}
_REFUSALS: dict[int, tuple[ErrorType, str]] = {
    401: ("permission_denied", "the link needs a sign-in or was revoked"),
    403: ("permission_denied", "the link needs a sign-in or was revoked"),
    404: ("not_found", "the link is misspelt, or the file was removed"),
    407: ("permission_denied", "the proxy needs a user and password in HTTP_PROXY or HTTPS_PROXY"),
    410: ("not_found", "the file was removed"),
}


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one state of a file from another."""

    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None
    """Bytes."""

    @property
    def is_known(self) -> bool:
        return self != Version()

    @property
    def if_range(self) -> str | None:
        """The validator for If-Range, which takes strong ones only (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def may_be(self, other: Version) -> bool:
        """Whether nothing says that the two are different files."""
        pairs = [(self.size, other.size), (self.etag, other.etag)]
        if not (self.etag and other.etag):
            pairs = [(self.size, other.size), (self.last_modified, other.last_modified)]
        return all(one is None or two is None or one == two for one, two in pairs)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the headers of an answer say of the file."""

    version: Version
    is_encoded: bool
    """Whether bytes are decoded as they come: then there are no ranges, and the size is not known."""
    first: int | None
    """The byte at which a partial answer begins."""
    has_ranges: bool
    """Whether the server says that it answers with parts."""

    @classmethod
    def of(cls, response: requests.Response) -> Answer:
        headers = response.headers
        is_encoded = headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")
        size, first = number_in(headers.get("Content-Length", "")), None
        if response.status_code != HTTPStatus.OK:
            size = None
            span = re.fullmatch(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+|\*)", headers.get("Content-Range", "").strip())
            if span:
                first, size = number_in(span[1] or ""), number_in(span[2])
        if is_encoded:
            size = first = None
        version = Version(headers.get("ETag"), headers.get("Last-Modified"), size)
        return cls(version, is_encoded, first, headers.get("Accept-Ranges", "").strip().lower() == "bytes")


def number_in(text: str) -> int | None:
    """The number that a header says; None for anything else, and for more digits than sizes of files have."""
    return int(text) if re.fullmatch("[0-9]{1,19}", text) else None


def new_session() -> requests.Session:
    """Connections and cookies that several requests share; for one thread."""
    session = requests.Session()
    session.headers.update(_HEADERS)
    session.hooks["response"].append(_leave_redirect)
    return session


def _leave_redirect(response: requests.Response, **_: object) -> None:
    """Read nothing of the page that comes with a redirect: requests reads it whole, and it need not end."""
    if response.is_redirect:
        response.close()


def get(
    session: requests.Session,
    url: str,
    *,
    start: int = 0,
    count: int | None = None,
    version: Version | None = None,
    timeout: tuple[float, float] = TIMEOUT_SECONDS,
    allow_private: bool = False,
) -> requests.Response:
    """Ask for a file, share links and redirects understood; of the answer only the headers were read.

    Args:
        start: The first byte that is wanted; the answer may begin at 0 all the same.
        count: How many bytes are wanted, if not all; the answer may bring more.
        version: Of which file, if it is another by now.
        allow_private: Go also where `remote.addresses` would not.

    Raises:
        InterruptedTryError: There was no answer.
        RefusedError: The URL leads to no file, or the server is not the one it names.
        PrivateAddressError: It leads to an address that is not allowed.
    """
    end = "" if count is None else start + count - 1
    headers = {"Range": f"bytes={start}-{end}"} if start or count else {}
    if headers and version and version.if_range:
        headers["If-Range"] = version.if_range
    try:
        return _followed(session, direct_url(url), headers, timeout, allow_private=allow_private)
    except (requests.RequestException, ValueError) as error:  # ValueError: URLs that urllib3 cannot read
        raise _explained(error, url, timeout) from None


def _followed(
    session: requests.Session, url: str, headers: dict[str, str], timeout: tuple[float, float], *, allow_private: bool
) -> requests.Response:
    """The answer behind all redirects. What is meant for one host is not sent to another: requests sees to that."""
    request: requests.PreparedRequest | None = session.prepare_request(requests.Request("GET", url, headers))
    start = None
    for _ in range(session.max_redirects + 1):
        assert request is not None, "there was a redirect"
        assert request.url is not None, "it is prepared"
        settings = session.merge_environment_settings(request.url, {}, True, None, None)
        by_proxy = requests.utils.select_proxy(request.url, settings["proxies"]) is not None
        addresses.check(request.url, start=start, allow_private=allow_private, by_proxy=by_proxy)
        start = start or request.url
        response = session.send(request, timeout=timeout, allow_redirects=False, **settings)
        request = response.next
        if request is None:
            return response
    raise requests.TooManyRedirects


def chunks(response: requests.Response, url: str, *, timeout: tuple[float, float] = TIMEOUT_SECONDS) -> Iterator[bytes]:
    """The bytes of an answer, as they come.

    Raises:
        InterruptedTryError: The connection broke.
        RefusedError: Less than MIN_BYTES_A_SECOND came for PACE_SECONDS.
    """
    try:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity", *_ZLIB_ENCODINGS):
            yield from response.iter_content(_CHUNK_BYTES)
            return
        if hasattr(response.raw, "read1"):
            pieces = _paced(partial(response.raw.read1, _CHUNK_BYTES, decode_content=False))
        else:  # urllib3 before version 2.1 waits for a whole piece, however slowly it comes
            pieces = response.raw.stream(_CHUNK_BYTES, decode_content=False)
        yield from _unpacked(pieces) if encoding in _ZLIB_ENCODINGS else pieces
    except (requests.RequestException, HTTPError) as error:
        raise _explained(error, url, timeout) from None


PACE_SECONDS, MIN_BYTES_A_SECOND = 300.0, 10_000
"""A server that sends a byte now and then never reaches the time that it may say nothing."""


_ZLIB_ENCODINGS = ("gzip", "x-gzip", "deflate")


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What one compressed stream after the other holds: urllib3 2.8 goes round in circles where there are several.

    Raises:
        InterruptedTryError: They are damaged, or end too early.
    """
    stream = None
    try:
        for piece in pieces:
            data = piece
            while data:
                stream = stream or zlib.decompressobj(_GZIP_OR_ZLIB)
                if unpacked := stream.decompress(data, _CHUNK_BYTES):
                    yield unpacked
                data = stream.unconsumed_tail or stream.unused_data
                stream = None if stream.eof else stream
        if stream is not None:
            if rest := stream.flush():
                yield rest
            if not stream.eof:
                raise InterruptedTryError("what came compressed ended too early")
    except zlib.error:
        raise InterruptedTryError("what came compressed is damaged") from None


_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


def _paced(read: Callable[[], bytes]) -> Iterator[bytes]:
    """What is read, until it is nothing; the time in which nobody reads does not count."""
    waited_s, num_bytes = 0.0, 0
    while True:
        started = time.monotonic()
        piece = read()
        waited_s += time.monotonic() - started
        num_bytes += len(piece)
        if not piece:
            return
        if waited_s >= PACE_SECONDS:
            if num_bytes < waited_s * MIN_BYTES_A_SECOND:
                raise RefusedError("unreachable", f"was given up: {num_bytes} bytes came in {waited_s:.0f} s")
            waited_s, num_bytes = 0.0, 0
        yield piece


def check_status(response: requests.Response) -> None:
    """Raise unless the answer brings the file or a part of it.

    Raises:
        InterruptedTryError: The status may pass.
        RefusedError: It will not.
    """
    status = response.status_code
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    name = f"{status} {http.client.responses.get(status, '')}".strip()
    if status in (HTTPStatus.TOO_MANY_REQUESTS, _BANDWIDTH_LIMIT_EXCEEDED):
        name += ", a quota or rate limit"
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
        wait_seconds = _retry_after(response.headers.get("Retry-After", ""))
        raise InterruptedTryError(f"the server answered {name}", wait_seconds=wait_seconds)
    error_type, meaning = _REFUSALS.get(status, ("read_error", "no file came with it"))
    raise RefusedError(error_type, f"answered {name}: {meaning}")


def _retry_after(value: str) -> float | None:
    """Seconds that the server asks to wait: given as a number or as a date (RFC 9110, 10.2.3)."""
    value = value.strip()
    if (number := number_in(value)) is not None:
        return float(number)
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _explained(
    error: requests.RequestException | HTTPError | ValueError, url: str, timeout: tuple[float, float]
) -> InterruptedTryError | RefusedError:
    """The same failure without the words of requests, which hold the URL with its secrets."""
    if isinstance(error, ValueError | requests.TooManyRedirects):
        return RefusedError("not_found", f"leads to no file ({type(error).__name__}): check the URL")
    causes = list(_causes(error))
    host = urlsplit(redacted(direct_url(url))).hostname
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        message = (
            f"was not read: the TLS certificate of {host} could not be verified. Behind a proxy that re-signs, name "
            "its certificate file in REQUESTS_CA_BUNDLE"
        )
        return RefusedError("unreachable", message)
    if isinstance(error, requests.exceptions.ProxyError):
        return InterruptedTryError("the proxy named in HTTP_PROXY or HTTPS_PROXY refuses", is_unreachable=True)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        reason = f"the name {host} could not be looked up; there is no network here, or it is misspelt"
        return InterruptedTryError(reason, is_unreachable=True)
    if isinstance(error, requests.ConnectTimeout):
        return InterruptedTryError(f"{host} did not answer within {timeout[0]:g} s", is_unreachable=True)
    if isinstance(error, requests.Timeout) or any(isinstance(cause, TimeoutError) for cause in causes):
        return InterruptedTryError(f"nothing came for {timeout[1]:g} s")
    numbers = [cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno is not None]
    if numbers:
        return InterruptedTryError(f"{host}: {os.strerror(numbers[0])}", is_unreachable=numbers[0] in _NO_CONNECTION)
    return InterruptedTryError(f"the connection broke ({type(error).__name__})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it wraps, which requests and urllib3 keep in different places."""
    pending, seen = [error], set[int]()
    while pending:
        cause = pending.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            inner = (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__)
            pending += [other for other in inner if isinstance(other, BaseException)]
