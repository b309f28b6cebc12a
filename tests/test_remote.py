"""URLs -> bytes, over a real server on this machine and fsspec's memory:// files."""

from __future__ import annotations

import errno
import io
import sys
import time
import traceback
import zipfile
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import fsspec
import pytest

from motivnet_cli.errors import ConfigError, FetchError, InputError
from motivnet_cli.remote import retries
from motivnet_cli.remote.files import open_remote, read_bytes
from motivnet_cli.remote.storage import with_retries
from motivnet_cli.remote.urls import display_name, is_remote
from tests.server import Answer, FileServer

CONTENT = bytes(range(256)) * 2000
RANGES = {"Accept-Ranges": "bytes"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(retries, "BACKOFF_SECONDS", 0.001)


@pytest.fixture
def bucket():
    yield fsspec.filesystem("memory")
    fsspec.filesystem("memory").store.clear()


def refusal(url, **options):
    with pytest.raises(InputError) as caught:
        read_bytes(url, **({"max_bytes": 1 << 30} | options))
    return caught.value


def stream_refusal(url):
    with open_remote(url) as file, pytest.raises(InputError) as caught:
        file.read()
    return caught.value


def test_urls_are_told_from_paths():
    """A scheme and two slashes; a drive letter or a colon in a name is none."""
    assert all(map(is_remote, ("http://h/x", "HTTPS://h/x", "s3://b/k", "gs://b/k", "hf://o/r/x", "memory://x")))
    assert not any(map(is_remote, ("a.jpg", "/a/http://x", "c:/x", "c://x", "a:b", "http:/x", "")))


@pytest.mark.parametrize("name", ["x-amz-signature", "X-Goog-Credential", "sig", "access_token", "Expires", "apikey"])
def test_parameters_that_open_a_file_are_not_shown(name):
    """The others stay, since they may be all that tells two pictures apart."""
    assert display_name(f"https://u:p@h/a?id=1&{name}=secret&size=2#frag") == "https://h/a?id=1&size=2"


def test_whole_file_over_http():
    """The same bytes, whatever the server says of them."""
    for answer in (
        Answer(CONTENT),
        Answer(CONTENT, ranges=False, etag=None),
        Answer(CONTENT, length=False),
        Answer(CONTENT, gzipped=True),
        Answer(CONTENT, slice_bytes=1000, headers=RANGES),
    ):
        with FileServer(answer) as server:
            assert read_bytes(server.url, max_bytes=len(CONTENT)) == CONTENT


def test_redirects_are_followed():
    """As share links have them."""
    with FileServer(Answer(CONTENT)) as server:
        url = server.on("/moved", Answer(b"", 302, {"Location": "/file"}))
        assert read_bytes(url, max_bytes=len(CONTENT)) == CONTENT


def test_limit_on_bytes():
    """Inclusive; one more is refused, and the rest is not read."""
    with FileServer(Answer(CONTENT)) as server:
        assert len(read_bytes(server.url, max_bytes=len(CONTENT))) == len(CONTENT)
        assert refusal(server.url, max_bytes=len(CONTENT) - 1).error_type == "too_large"


def test_broken_read_goes_on_where_it_broke():
    """Asked for under the condition that the file is still the same."""
    with FileServer(
        *(Answer(CONTENT, drop_after=at, headers=RANGES) for at in (200_000, 100_000)), Answer(CONTENT)
    ) as server:
        assert read_bytes(server.url, max_bytes=len(CONTENT)) == CONTENT
        positions = [int(each.removeprefix("bytes=").removesuffix("-")) for each in server.ranges() if each]
        assert positions == sorted(positions)
        assert len(positions) == 2
        assert server.requests[1].headers["If-Range"] == '"one"'


def test_broken_read_without_ranges_begins_again():
    """What is here already is read over."""
    answers = (Answer(CONTENT, drop_after=200_000, ranges=False), Answer(CONTENT, ranges=False))
    with FileServer(*answers) as server, open_remote(server.url) as file:
        assert not file.seekable()
        assert file.read() == CONTENT
        assert server.ranges() == [None, None]


def test_broken_read_of_an_unknown_version():
    """A stream cannot go on, since the file may be another one by now; a whole file is read anew."""
    chunked = b"%x\r\n" % len(CONTENT) + CONTENT
    headers = {"Transfer-Encoding": "chunked"}
    first = Answer(chunked, drop_after=300_000, length=False, etag=None, headers=headers)

    with FileServer(first, Answer(CONTENT, etag=None)) as server:
        assert stream_refusal(server.url).error_type == "unreachable"
    with FileServer(first, Answer(b"new", etag=None)) as server:
        assert read_bytes(server.url, max_bytes=len(CONTENT)) == b"new"


def test_file_that_changes_while_it_is_read():
    """Two halves of two files are no file: a stream ends, a whole file is read anew."""
    first = Answer(CONTENT, drop_after=200_000, headers=RANGES)
    second = Answer(CONTENT[::-1], etag='"two"', headers=RANGES)

    with FileServer(first, second) as server:
        assert stream_refusal(server.url).error_type == "changed"
    with FileServer(first, second) as server:
        assert read_bytes(server.url, max_bytes=len(CONTENT)) == CONTENT[::-1]


@pytest.mark.parametrize(
    ("status", "error_type", "num_requests"),
    [
        *((status, "not_found", 1) for status in (404, 410)),
        *((status, "permission_denied", 1) for status in (401, 403)),
        (400, "read_error", 1),
        *((status, "unreachable", 3) for status in (429, 500, 503)),
    ],
)
def test_refusals_have_their_types(status, error_type, num_requests):
    """Only those that may pass are tried again."""
    with FileServer(Answer(b"no", status, {"Retry-After": "0"})) as server:
        error = refusal(server.url, retries=2)
        assert (error.error_type, len(server.requests)) == (error_type, num_requests)
        assert str(status) in str(error)


def test_server_says_when_to_come_again(monkeypatch):
    """In seconds or by a date, at most a minute ahead; else the wait grows with the failures."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    soon, late = (
        format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True) for seconds in (50, 5000)
    )
    answers = [Answer(b"", 503, headers={"Retry-After": when}) for when in ("7", soon, late)]
    with FileServer(*answers, Answer(b"", 503), Answer(CONTENT)) as server:
        assert read_bytes(server.url, max_bytes=len(CONTENT), retries=4) == CONTENT

    assert (waits[0], waits[2]) == (7, 60)
    assert 1 < waits[1] <= 50
    assert 8 * retries.BACKOFF_SECONDS / 2 <= waits[3] <= 8 * retries.BACKOFF_SECONDS


def test_server_that_recovers():
    """A few bad answers cost time, not the picture."""
    with FileServer(Answer(b"", 503), Answer(b"", 500), Answer(CONTENT)) as server:
        assert read_bytes(server.url, max_bytes=len(CONTENT)) == CONTENT


def test_nobody_listens():
    """A closed port is unreachable."""
    with FileServer(Answer(CONTENT)) as server:
        pass

    assert refusal(server.url, retries=1).error_type == "unreachable"


@pytest.mark.parametrize("url", ["http://[::1", "http://", "http://h:99999/x", "https://exa mple/x", "nosuch://b/x"])
def test_urls_that_lead_nowhere(url):
    """They are refused without new tries."""
    assert refusal(url, retries=0).error_type in ("not_found", "unsupported", "unreachable")


def test_secrets_are_in_no_message():
    """Neither in the message nor in what a traceback would print."""
    with FileServer(Answer(b"no", 404)) as server:
        pass
    for url in (
        f"http://user:hush@127.0.0.1:{server.port}/x?sig=hush#hush",
        "memory://hush@none?key=hush",
        "nosuch://user:hush@h/x?y=hush",
        "http://user:hush@exa mple/x?y=hush",
    ):
        error = refusal(url, retries=0)
        assert "hush" not in "".join(traceback.format_exception(error)).replace(repr(url), "")


def test_seeking_over_http():
    """A zip is read from its end, by ranges, and a gap of a few bytes costs no new request."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}", CONTENT)
    with FileServer(Answer(file.getvalue(), headers=RANGES)) as server:
        with open_remote(server.url) as remote_file, zipfile.ZipFile(remote_file) as archive:
            assert [archive.read(name) for name in archive.namelist()] == [CONTENT] * 3
        assert len(server.requests) <= 5


def test_seek_and_tell():
    """As a file of Python does, past the end too."""
    with FileServer(Answer(CONTENT, headers=RANGES)) as server, open_remote(server.url) as file:
        assert file.seek(-10, io.SEEK_END) == len(CONTENT) - 10
        assert file.read() == CONTENT[-10:]
        assert file.seek(300) == 300
        assert file.read(5) == CONTENT[300:305]
        assert file.seek(5, io.SEEK_CUR) == 310
        assert file.read(5) == CONTENT[310:315]
        file.seek(len(CONTENT) + 5)
        assert file.read() == b""


def test_short_gap_is_read_over():
    """A new request would cost more than the bytes between."""
    with FileServer(Answer(CONTENT, headers=RANGES)) as server, open_remote(server.url) as file:
        assert file.read(5) == CONTENT[:5]
        file.seek(400_000)
        assert file.read(5) == CONTENT[400_000:400_005]
        assert len(server.requests) == 1


def test_file_in_a_bucket(bucket):
    """Through fsspec, whole and by seeking."""
    bucket.pipe("/b/key", CONTENT)

    assert read_bytes("memory://b/key", max_bytes=len(CONTENT)) == CONTENT
    with open_remote("memory://b/key") as file:
        file.seek(-3, io.SEEK_END)
        assert file.read() == CONTENT[-3:]


def test_missing_key_and_unknown_scheme(bucket):
    """The types are those of other inputs."""
    assert refusal("memory://b/none").error_type == "not_found"
    assert refusal("nosuch://b/key").error_type == "unsupported"


def test_bucket_without_its_software(monkeypatch):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"motivnet-cli\[remote\]"):
        read_bytes("s3://b/key", max_bytes=1)


def test_bucket_that_fails_for_a_while(bucket, monkeypatch):
    """Storage errors, and a stream that ends too early, are tried again from where they came."""
    bucket.pipe("/b/key", CONTENT)
    files = type(bucket.open("/b/key"))
    read, outcomes = files.read, iter([OSError("reset"), None, b"", None, TimeoutError(), None])

    def failing_read(self, *size):
        outcome = next(outcomes, None)
        if isinstance(outcome, Exception):
            raise outcome
        return read(self, *size) if outcome is None else outcome

    monkeypatch.setattr(files, "read", failing_read)

    assert read_bytes("memory://b/key", max_bytes=len(CONTENT)) == CONTENT
    assert next(outcomes, "used up") == "used up"


def test_storage_is_asked_again():
    """As often as said, unless it is no use; what is wrong with this machine comes through as it is."""
    said = []

    def asked(*outcomes, retries=2):
        left = list(outcomes)

        def ask():
            outcome = left.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        try:
            return with_retries(ask, "s3://user:hush@bucket/key", retries=retries), left
        except (ConfigError, FetchError, OSError) as error:
            said.append(str(error))
            return type(error), left

    assert asked(TimeoutError(), OSError("hush"), "told") == ("told", [])
    assert asked(*[RuntimeError()] * 3, "not asked for") == (FetchError, ["not asked for"])
    assert asked(PermissionError("hush"), "not asked for") == (ConfigError, ["not asked for"])
    assert asked(FileNotFoundError(), "not asked for") == (ConfigError, ["not asked for"])
    assert asked(OSError(errno.ENOSPC, "full"), "not asked for") == (OSError, ["not asked for"])
    assert not any("hush" in text for text in said)
