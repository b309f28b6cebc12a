"""A real HTTP server on this machine that behaves as a test tells it, request by request.

It models what download hosts do, well and badly. A path gets a list of `Answer`s: the first request takes the
first, the next the next, and the last one stays. Queries do not count for the choice but are recorded.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from email.message import Message

CHUNK = 1 << 14
GUARD_SECONDS = 300
"""A wait that should end sooner ends a test that hangs; no test passes or fails by it."""


@dataclass(frozen=True)
class Answer:
    """How one request is answered."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = '"one"'
    last_modified: str | None = None
    content_type: str = "application/octet-stream"
    ranges: bool = True
    """Whether Range is understood; If-Range is, where the answer has the validator."""
    ignores_condition: bool = False
    """Grant a range whatever If-Range says."""
    length: bool = True
    """Whether the length is said; without it the closed connection ends the body."""
    slice_bytes: int | None = None
    """A granted range ends after so many bytes, however many were asked for."""
    drop_after: int | None = None
    """Close the connection after so many bytes of the body."""
    stall_after: int | None = None
    """Say nothing more after so many bytes of the body."""
    seconds_per_chunk: float = 0.0
    """Pause after every 16 KiB."""
    gate: threading.Event | None = None
    """Say nothing before it is set."""
    needs_cookie: str | None = None
    """Answer 403 to a request without it."""
    keep_open: bool = False
    """Another request may come over the same connection."""
    gzipped: bool = False
    """Compress if the request allows it."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """With its query; the whole URL when the server was used as a proxy."""
    headers: Message


class FileServer:
    """Serves on a free port of 127.0.0.1 until the `with` block ends."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[Request] = []
        self.num_connections = self.num_bytes = 0
        """Connections that were made, and bytes of files that were sent."""
        self._answers: dict[str, list[Answer]] = {"/file": list(answers)}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/file"

    def __enter__(self) -> FileServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, path: str, *answers: Answer) -> str:
        """Answer requests for `path` so; returns its URL."""
        self._answers[path] = list(answers)
        return f"http://127.0.0.1:{self.port}{path}"

    def ranges(self) -> list[str | None]:
        """The Range header of every request so far."""
        return [request.headers.get("Range") for request in self.requests]

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self.num_bytes += num_bytes

    def _next(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            answers = self._answers.get(urlsplit(request.path).path) or [Answer(b"nothing here", 404)]
            return answers.pop(0) if len(answers) > 1 else answers[0]


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with server._lock:
                server.num_connections += 1

        def do_GET(self) -> None:
            answer = server._next(Request(self.command, self.path, self.headers))
            self.close_connection = not answer.keep_open
            with contextlib.suppress(ConnectionError):  # the client was killed, or had enough
                self._answer(answer)

        do_HEAD = do_GET

        def _answer(self, answer: Answer) -> None:
            if answer.gate:
                answer.gate.wait(GUARD_SECONDS)
            if answer.needs_cookie and answer.needs_cookie not in self.headers.get("Cookie", ""):
                answer = Answer(b"no cookie", 403)
            body, status, headers = answer.content, answer.status, dict(answer.headers)
            if status == 200:
                headers |= {"Content-Type": answer.content_type}
                headers |= {"ETag": answer.etag} if answer.etag else {}
                headers |= {"Last-Modified": answer.last_modified} if answer.last_modified else {}
                if answer.gzipped and "gzip" in self.headers.get("Accept-Encoding", ""):
                    body = gzip.compress(body)
                    headers["Content-Encoding"] = "gzip"
                wanted = self._range(answer)
                start = wanted.start if wanted else 0
                if wanted and start >= len(body):
                    status, body = 416, b""
                    headers["Content-Range"] = f"bytes */{len(answer.content)}"
                elif wanted:
                    status, body = 206, body[wanted][: answer.slice_bytes]
                    headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(answer.content)}"
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if answer.length:
                self.send_header("Content-Length", str(len(body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command == "GET":
                self._send(body, answer)

        def _range(self, answer: Answer) -> slice | None:
            """The bytes of the range that is asked for, if it is to be granted."""
            wanted = self.headers.get("Range")
            if wanted is None or not answer.ranges:
                return None
            condition = self.headers.get("If-Range")
            is_met = condition in (None, answer.etag, answer.last_modified) or answer.ignores_condition
            if not is_met:
                return None
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            return slice(int(first), int(last) + 1 if last else None)

        def _send(self, body: bytes, answer: Answer) -> None:
            ends = [end for end in (answer.drop_after, answer.stall_after) if end is not None]
            for at in range(0, min([len(body), *ends]), CHUNK):
                piece = body[at : min([at + CHUNK, len(body), *ends])]
                self.wfile.write(piece)
                server._count(len(piece))
                if answer.seconds_per_chunk and server._closing.wait(answer.seconds_per_chunk):
                    return
            if answer.stall_after is not None:
                self.wfile.flush()
                server._closing.wait(GUARD_SECONDS)

        def log_message(self, *_) -> None:
            pass

    return Handler
