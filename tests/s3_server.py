"""A real S3 server on this machine, moto's, that checks signatures; and one before it that fails at times.

It is a process of its own, holds everything in memory and is gone with the test session.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PAGE_KEYS = 7
"""Keys in one page of a listing, so that a small folder has several."""
TRIES = 3
_START_SECONDS = 300
_ALL_OF_S3 = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class S3Server:
    """Serves on a free port of 127.0.0.1 until the `with` block ends."""

    def __enter__(self) -> S3Server:
        for _ in range(TRIES):
            self._start()
            try:
                if self._answers():
                    self._prepare()
                    return self
            except BaseException:
                self.__exit__()
                raise
            self.__exit__()
        raise RuntimeError("moto's server did not start")

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            env=os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE_KEYS)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _prepare(self) -> None:
        user = self._client("iam", "nobody", "nothing")
        user.create_user(UserName="reader")
        key = user.create_access_key(UserName="reader")["AccessKey"]
        user.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=json.dumps(_ALL_OF_S3))
        self.key_id, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        user.close()
        start = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(start):
            pass  # from here on it asks for the key
        self.client = self._client("s3", self.key_id, self.secret)
        """Amazon's own client, to look at what is there by another way."""
        self._names = (f"bucket-{number}" for number in itertools.count())

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()

    def environment(self, *, url: str | None = None, secret: str | None = None) -> dict[str, str]:
        """The variables by which a process finds it."""
        return {
            "AWS_ENDPOINT_URL": url or self.url,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": secret or self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_bucket(self) -> str:
        name = next(self._names)
        self.client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def upload(self, folder: Path, bucket: str, prefix: str = "") -> None:
        """Every file of a folder, which gets the time that the server gives its object."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}{path.relative_to(folder).as_posix()}"
                self.put(bucket, key, path.read_bytes())
                changed = self.client.head_object(Bucket=bucket, Key=key)["LastModified"].timestamp()
                os.utime(path, (changed, changed))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def content(self, bucket: str, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def _client(self, service: str, key_id: str, secret: str):
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
        )

    def _answers(self) -> bool:
        """Whether it has started; not if another process took the port meanwhile."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=_START_SECONDS):
                return True
            time.sleep(0.05)
        return False


class FailingServer:
    """Stands before an S3 server and fails every `every`-th request: it answers 503, or hangs up, in turn.

    Args:
        every: None fails none: requests are counted.
    """

    def __init__(self, server: S3Server, *, every: int | None) -> None:
        self.num_failed = 0
        self.requests: list[tuple[str, str]] = []
        """Method and path with query of each."""
        self._numbers = itertools.count(1)
        self._every = every
        self._target = server.port
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _forwarder(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FailingServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _fails(self) -> bool:
        fails = self._every is not None and next(self._numbers) % self._every == 0
        self.num_failed += fails
        return fails


def _forwarder(front: FailingServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            front.requests.append((self.command, self.path))
            if front._fails():
                if front.num_failed % 2:
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                return
            connection = http.client.HTTPConnection("127.0.0.1", front._target, timeout=300)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # the host too, since it is signed
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            self.send_header("Content-Length", answer.headers["Content-Length"] if is_head else str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            if not is_head:
                self.wfile.write(content)
            connection.close()

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, *_) -> None:
            pass

    return Handler
