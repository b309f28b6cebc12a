"""Answers of servers, byte by byte: statuses, headers, lengths, ranges, redirects, encodings, and lists of a bucket."""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import socket
import threading
import zlib
from typing import TYPE_CHECKING

from tests.fuzz.mutate import NUMBERS, raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

BODY = bytes(range(256)) * 40
MAX_BYTES = 1 << 20
_STATUSES = (b"200 OK", b"206 Partial Content", b"204 No Content", b"301 Moved", b"302 Found", b"304 Not Modified",
             b"401 X", b"403 X", b"404 X", b"416 X", b"429 X", b"500 X", b"503 X", b"999 X", b"000 X", b"-1 X", b"abc",
             b"100 Continue", b"101 Switching Protocols", b"200", b"")  # fmt: skip
_DIGITS = (*(str(number).encode() for number in NUMBERS), b"9" * 5000, b"-5", b"", b"abc", b"1, 2", b"+5", b"\xb2")


class _Server:
    """Answers every request with the same bytes, on a free port of this machine."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._reply, args=(connection,), daemon=True).start()

    def _reply(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            request = b""
            while b"\r\n\r\n" not in request and (piece := connection.recv(1 << 16)):
                request += piece
            connection.sendall(self.answer)


@functools.cache
def _server() -> _Server:
    """One a process, with the waits of the product cut short."""
    from motivnet_cli.remote import http, retries

    retries.BACKOFF_SECONDS = retries.MAX_WAIT_SECONDS = 0.001
    for function in (http.get, http.chunks):
        function.__kwdefaults__["timeout"] = (1.0, 0.5)
    return _Server()


# ---- sound answers ----


def answers() -> Iterator[bytes]:
    length = str(len(BODY)).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"
    yield head + b'ETag: "a"\r\nAccept-Ranges: bytes\r\nContent-Length: ' + length + b"\r\n\r\n" + BODY
    yield head + b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + BODY[:1024] + b"\r\n0\r\n\r\n"
    packed = gzip.compress(BODY)
    yield head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    yield head.replace(b"200 OK", b"206 Partial Content") + b"Content-Range: bytes 0-9/10\r\n\r\n" + BODY[:10]
    yield head.replace(b"200 OK", b"302 Found") + b"Location: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    yield head.replace(b"200 OK", b"503 Busy") + b"Retry-After: 5\r\nContent-Length: 0\r\n\r\n"


def lists_of_keys() -> Iterator[bytes]:
    keys = "".join(
        f"<Contents><Key>photos/{n}.jpg</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;a&quot;</ETag><Size>{n * 10}</Size></Contents>"
        for n in range(5)
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bucket</Name><Prefix>photos/</Prefix><KeyCount>5</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>false</IsTruncated>{keys}</ListBucketResult>"
    ).encode()
    yield body


# ---- mutators ----


def answer(rng: Random, data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for _ in range(rng.choice((1, 1, 2, 3))):
        choice = rng.randrange(8)
        at = rng.randrange(1, len(lines)) if len(lines) > 1 else 0
        name = lines[at].partition(b":")[0]
        if choice == 0:
            lines[0] = rng.choice((b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/9 ", b"ICY ", b"")) + rng.choice(_STATUSES)
        elif choice == 1:
            lines[at] = name + b": " + rng.choice(_DIGITS)
        elif choice == 2:
            lines.insert(at, rng.choice(_HEADERS))
        elif choice == 3:
            lines[at] = raw(rng, lines[at])
        elif choice == 4:
            body = rng.choice(
                (b"", body * 100, raw(rng, body), _bomb(), b"zz\r\n" + body, b"FFFFFFFFFFFFFFFF\r\n" + body)
            )
        elif choice == 5:
            lines += [lines[at]] * rng.choice((1, 200))
        elif choice == 6 and at:
            del lines[at]
        else:
            lines[at] = (
                name + b": " + rng.choice((b"x" * 70_000, b"bytes 5-1/3", b"bytes */5", b"bytes 0-/x", b"\xff\0"))
            )
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


_HEADERS = (
    *(b"Content-Length: 10", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked", b"Age: -"),
    *(
        b"Content-Encoding: gzip",
        b"Content-Encoding: deflate",
        b"Content-Encoding: br",
        b"Content-Encoding: gzip, gzip",
    ),
    *(b"Location: http://127.0.0.1:1/x", b"Location: file:///etc/passwd", b"Location: http://[::1", b"Location: //"),
    *(
        b"Location: \xff\xfe",
        b"Location: http://a b/",
        b"Retry-After: Wed, 21 Oct 99999 07:28:00 GMT",
        b"Set-Cookie: =;",
    ),
    *(b"Retry-After: Mon, 01 Jan 0001 00:00:00 +9999", b"Retry-After: Mon, 31 Dec 9999 23:59:59 -9959", b"X: \0"),
    *(b"Content-Range: bytes 0-9/10", b"Accept-Ranges: bytes", b"ETag: W/", b"Retry-After: 99999999999999999999"),
)


@functools.cache
def _bomb() -> bytes:
    """8 MB of zeros, compressed; within gzip, too."""
    return zlib.compress(bytes(8 << 20), 9)


def keys(rng: Random, data: bytes) -> bytes:
    choice = rng.random()
    if choice < 0.4:
        return raw(rng, data)
    words = [
        b"photos/1.jpg",
        b"<Size>10</Size>",
        b"2024-01-01T00:00:00.000Z",
        b"false",
        b"<Key>",
        b"<Contents>",
        b"ListBucketResult",
    ]
    odd = [
        b"",
        b"../../x.jpg",
        b"true",
        b"\xff",
        b"<Size>x</Size>",
        b"<Size>-1</Size>",
        b"9" * 400,
        b"<a>" * 2000,
        b"&x;",
        b"photos/",
        b"2024-13-45",
    ]
    return data.replace(rng.choice(words), rng.choice(odd), rng.choice((-1, 1)))


# ---- judging ----


def judge_http(data: bytes, folder: Path) -> str:
    """A picture that is read whole, a video in parts, and a file of weights, from a server that says this."""
    from motivnet_cli.errors import FetchError, InputError
    from motivnet_cli.remote.fetch import fetch
    from motivnet_cli.remote.files import read_bytes
    from motivnet_cli.remote.ranges import ranges_or_copy

    server = _server()
    server.answer = data
    try:
        content = read_bytes(f"{server.url}/a.jpg", max_bytes=MAX_BYTES, retries=1)
        assert len(content) <= MAX_BYTES
        label = "ok"
    except InputError as error:
        label = error.error_type
    with contextlib.suppress(InputError), ranges_or_copy(f"{server.url}/a.mp4") as source:
        if isinstance(source, str):
            assert os.path.getsize(source) < 64 << 20  # noqa: PTH202
        else:
            assert len(source.block(source.num_blocks - 1)) <= source.block_bytes
    with contextlib.suppress(FetchError):
        fetch(f"{server.url}/m.pth", folder / "m.pth", retries=1, timeout=(1.0, 0.5), backoff_seconds=0)
    for path in folder.glob("m.pth*"):
        path.unlink()
    return label


def judge_bucket(data: bytes, folder: Path) -> str:
    """The list of a bucket from a server that answers so."""
    from motivnet_cli.errors import ConfigError, FetchError
    from motivnet_cli.remote import storage

    server = _server()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": server.url, "AWS_MAX_ATTEMPTS": "1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    import s3fs

    s3fs.S3FileSystem.retries = 1
    s3fs.S3FileSystem.clear_instance_cache()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    server.answer = head % len(data) + data
    try:
        for entry in storage.list_remote("s3://bucket/photos/", retries=0):
            assert entry.version[0] is None or isinstance(entry.version[0], int)
    except (ConfigError, FetchError) as error:
        return type(error).__name__
    return "ok"
