"""Whatever happens on the way, a fetch ends in the whole verified file, or in a clear error and no file."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from motivnet_cli.errors import ConfigError, FetchError
from motivnet_cli.remote.fetch import fetch
from motivnet_cli.remote.urls import direct_url, redacted
from tests.runs import talk_of
from tests.server import Answer, FileServer

CONTENT = b"PK\x03\x04" + random.Random(1).randbytes(1_000_000)
OTHER = b"PK\x03\x04" + random.Random(2).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
FETCH = """
import json, sys
from pathlib import Path
from motivnet_cli.remote.fetch import fetch
fetch(sys.argv[1], Path(sys.argv[2]), **json.loads(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The servers of these tests are on this machine."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "models" / "weights.pth"


def get(url, destination, **options):
    return fetch(url, destination, **{"backoff_seconds": 0.01, "timeout": (60, 60)} | options)


def process(url, destination, *, before="", **options):
    """A `fetch` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", before + FETCH, url, str(destination), json.dumps(options)],
        stderr=subprocess.PIPE,
        text=True,
    )


def part_of(destination):
    return destination.with_name(destination.name + ".part")


def note_of(destination):
    return destination.with_name(destination.name + ".part.json")


def assert_whole(destination):
    """The file is there with its very bytes, and nothing of the way to it but the lock."""
    assert destination.read_bytes() == CONTENT
    assert {path.name for path in destination.parent.iterdir()} <= {destination.name, destination.name + ".lock"}


def leave_a_part(destination, server, **options):
    """Begin a download that the server's first answer interrupts, and give up."""
    with pytest.raises(FetchError, match="given up"):
        get(server.url, destination, retries=0, **options)
    assert 0 < part_of(destination).stat().st_size < len(CONTENT)


def test_a_clean_download_brings_the_file_and_says_what_it_is(destination):
    """The bytes arrive under the name, with hash, size, validators and a progress that ends at the whole."""
    seen = []
    with FileServer(Answer(CONTENT, last_modified=DATE)) as server:
        fetched = get(server.url, destination, sha256=SHA256.upper(), progress=lambda *now: seen.append(now))

    assert_whole(destination)
    assert (fetched.sha256, fetched.size, fetched.source) == (SHA256, len(CONTENT), server.url)
    assert (fetched.etag, fetched.last_modified) == ('"one"', DATE)
    assert seen == sorted(seen)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_downloaded_again(destination):
    """A second fetch hashes what is there; only a wrong hash is an error, and the file stays."""
    with FileServer(Answer(CONTENT)) as server:
        first = get(server.url, destination)
        second = get(server.url, destination, offline=True)
        with pytest.raises(FetchError, match="is another file"):
            get(server.url, destination, sha256="0" * 64)

    assert len(server.requests) == 1
    assert (first.sha256, first.size) == (second.sha256, second.size)
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize("pinned", [True, False])
def test_killed_at_random_moments_it_goes_on_until_whole(destination, pinned):
    """A process that dies by SIGKILL, again and again, costs no byte that was already there."""
    draw = random.Random(3)
    options = {"sha256": SHA256} if pinned else {}
    part, kills = part_of(destination), 0
    with FileServer(Answer(CONTENT, seconds_per_chunk=0.02)) as server:
        while kills < 4:
            here = part.stat().st_size if part.exists() else 0
            enough = here + draw.randrange(1, 250_000)
            child = process(server.url, destination, **options)
            while child.poll() is None and not (part.exists() and part.stat().st_size >= enough):
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            if destination.exists():
                break
            kills += 1
            assert part.stat().st_size >= here
        fetched = get(server.url, destination, **options)

    assert_whole(destination)
    assert fetched.sha256 == SHA256
    assert kills >= 2
    assert [bool(each) for each in server.ranges()] == [False] + [True] * (len(server.requests) - 1)


def test_killed_before_the_rename_it_needs_no_server(destination):
    """A part that is complete is verified and takes its name without another request."""
    with FileServer(Answer(CONTENT, drop_after=500_000)) as server:
        leave_a_part(destination, server)
        part_of(destination).write_bytes(CONTENT)
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "server_kind",
    [
        {},
        {"etag": None, "last_modified": DATE},
        {"etag": 'W/"weak"'},
        {"etag": 'W/"weak"', "last_modified": DATE},
        {"etag": None},
        {"etag": None, "ranges": False},
        {"ranges": False},
    ],
    ids=str,
)
def test_a_truncated_body_is_noticed_and_completed(destination, server_kind):
    """With strong, weak or no validators, and with or without Range, a dropped connection costs no byte's truth."""
    dropped, whole = Answer(CONTENT, drop_after=600_000, **server_kind), Answer(CONTENT, **server_kind)
    with FileServer(dropped, whole) as server:
        get(server.url, destination, sha256=SHA256)

    validators = {server_kind.get("etag", '"one"'), server_kind.get("last_modified"), None}
    assert_whole(destination)
    assert [bool(each) for each in server.ranges()] == [False, True]
    assert server.requests[1].headers["If-Range"] == next(iter(validators - {None, 'W/"weak"'}), None)


def test_a_server_that_grants_a_slice_at_a_time_is_asked_until_whole(destination):
    """An answer may be complete and yet not bring the end of the file."""
    dropped, sliced = Answer(CONTENT, drop_after=200_000), Answer(CONTENT, slice_bytes=300_000)
    with FileServer(dropped, sliced) as server:
        get(server.url, destination, retries=1)

    assert_whole(destination)
    assert len(server.requests) == 4


def test_without_range_an_endless_row_of_drops_ends(destination):
    """A server that always drops at the same byte makes no progress, so the retries run out."""
    given_up = pytest.raises(FetchError, match=r"given up after 2 retries that brought nothing new.*\d+ bytes are kept")
    with FileServer(Answer(CONTENT, ranges=False, drop_after=600_000)) as server, given_up:
        get(server.url, destination, retries=2)

    assert not destination.exists()
    assert len(server.requests) == 1 + 2


def test_many_drops_do_not_use_up_the_retries_while_it_advances(destination):
    """A try that brought new bytes starts the count anew."""
    with FileServer(Answer(CONTENT, drop_after=150_000)) as server:
        get(server.url, destination, retries=1, sha256=SHA256)

    assert_whole(destination)
    assert len(server.requests) > 6


def test_an_end_that_is_never_said_is_found_by_asking_beyond_it(destination):
    """When the length is unknown, 416 with the size that is here means whole."""
    content = CONTENT[: 8 << 16]  # whole chunks: a stall loses the begun one
    with FileServer(Answer(content, length=False, stall_after=len(content)), Answer(content)) as server:
        get(server.url, destination, timeout=(60, 1))

    assert destination.read_bytes() == content
    assert server.ranges()[-1] == f"bytes={len(content)}-"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"etag": '"two"'}),
        ({"etag": None, "last_modified": DATE}, {"etag": None, "last_modified": DATE.replace("2015", "2016")}),
        ({"etag": 'W/"one"'}, {"etag": 'W/"two"'}),
        ({"etag": None}, {"etag": None}),
    ],
    ids=["etag", "last-modified", "weak etag", "nothing to tell"],
)
def test_a_file_that_changes_between_tries_is_not_mixed(destination, before, after):
    """The rest of another version never joins the beginning of the old one."""
    with FileServer(Answer(OTHER, drop_after=600_000, **before), Answer(CONTENT, **after)) as server:
        fetched = get(server.url, destination)

    assert_whole(destination)
    assert fetched.sha256 == SHA256


def test_a_file_that_changes_its_length_only_is_not_mixed(destination):
    """Without validators, a pinned hash lets it resume, and another length starts it over."""
    old = Answer(OTHER + b"more", etag=None, drop_after=600_000)
    with FileServer(old, Answer(CONTENT, etag=None)) as server:
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)
    assert [bool(each) for each in server.ranges()] == [False, True, False]


@pytest.mark.parametrize("validator", ['"one"', None])
def test_a_mix_that_no_validator_shows_is_caught_by_the_hash(destination, validator):
    """Pieces that do not make the pinned file are thrown away, once, and the file fetched in one piece."""
    with FileServer(Answer(OTHER, etag=validator, drop_after=600_000), Answer(CONTENT, etag=validator)) as server:
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)
    assert [bool(each) for each in server.ranges()] == [False, True, False]


def test_a_damaged_part_is_caught_by_the_hash(destination):
    """Bytes on disk that are not what arrived do not survive."""
    with FileServer(Answer(CONTENT, drop_after=600_000), Answer(CONTENT)) as server:
        leave_a_part(destination, server)
        part_of(destination).write_bytes(b"\0" * part_of(destination).stat().st_size)
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)


def test_a_part_of_another_url_is_not_continued(destination):
    """The note says which URL the bytes are of."""
    with FileServer(Answer(OTHER, drop_after=600_000)) as server:
        leave_a_part(destination, server)
        get(server.on("/another", Answer(CONTENT)), destination)

    assert_whole(destination)


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}', '{"size": "x"}'])
def test_a_part_without_a_readable_note_is_not_continued(destination, note):
    """Bytes of unknown origin are not used."""
    with FileServer(Answer(OTHER, drop_after=600_000), Answer(CONTENT)) as server:
        leave_a_part(destination, server)
        note_of(destination).write_text(note)
        get(server.url, destination)

    assert_whole(destination)


def test_a_share_links_redirects_and_cookie_are_followed_anew_each_time(destination):
    """As SharePoint does it: a redirect sets a cookie without which the file is refused; its token is not reused."""
    with FileServer() as server:
        cookie = {"Location": "/download?tempauth=SECRET", "Set-Cookie": "FedAuth=granted; path=/; HttpOnly"}
        share = server.on("/share", Answer(status=302, headers=cookie))
        served = {"needs_cookie": "FedAuth=granted"}
        server.on("/download", Answer(CONTENT, drop_after=600_000, **served), Answer(CONTENT, **served))
        fetched = get(share + "?e=SECRET", destination, sha256=SHA256)

    assert_whole(destination)
    assert [request.path.partition("?")[0] for request in server.requests] == ["/share", "/download"] * 2
    assert fetched.source == share


@pytest.mark.parametrize("url", ["http://a..b/file", "http://[bad/file", "http://host:99999/file", "http:///file"])
def test_a_url_that_cannot_be_read_is_an_error(destination, url):
    """Whoever finds it out, requests or urllib3."""
    with pytest.raises(FetchError, match="check the URL"):
        get(url, destination)


def test_a_redirect_that_never_ends_is_an_error(destination):
    """A loop of redirects is not tried again."""
    with FileServer() as server:
        url = server.on("/loop", Answer(status=302, headers={"Location": "/loop"}))
        with pytest.raises(FetchError, match="TooManyRedirects"):
            get(url, destination)

    assert not destination.exists()


PAGE = b"<!DOCTYPE html><html><head><script>var limit = 1</script><title>%s</title></head><body>%s</body></html>"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer(PAGE % (b"Sign in to your account", b""), content_type="text/html"),
            "titled 'Sign in.*needs a sign-in",
        ),
        (Answer(PAGE % (b"Drive", b"Quota exceeded for this file")), "titled 'Drive'.*quota or download limit"),
        (
            Answer(PAGE % (b"weights.pth &amp; more", b"a viewer")),
            "titled 'weights.pth & more'.*has expired, or it shows",
        ),
        (Answer(b"\xef\xbb\xbf\n <?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"), "has expired"),
        (Answer(b'{"error": {"message": "too many requests"}}', content_type="application/json"), "quota"),
        (
            Answer(PAGE % (b"x", CONTENT[:99].hex().encode()), content_type="text/html", length=False),
            "a page titled 'x'",
        ),
    ],
    ids=["login", "quota", "viewer", "xml", "json", "no length"],
)
def test_a_page_in_place_of_the_file_is_recognised(destination, answer, message):
    """A page with status 200 is an error that says what came, what it means and what to do."""
    with FileServer(answer) as server, pytest.raises(FetchError, match=message) as caught:
        get(server.url, destination)

    assert "--from-file PATH" in str(caught.value)
    assert len(server.requests) == 1
    assert not destination.exists()
    assert not part_of(destination).exists()


def test_a_redirect_to_a_login_host_is_recognised_as_such(destination, monkeypatch):
    """Where the page came from tells a login page, whatever its title."""
    with FileServer() as server:
        # The server is the proxy, so it may answer in the name of any host.
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
        server.on("/share", Answer(status=302, headers={"Location": "http://login.microsoftonline.com/x?token=SECRET"}))
        server.on("/x", Answer(PAGE % (b"Welcome", b""), content_type="text/html"))
        with pytest.raises(FetchError, match=r"from login\.microsoftonline\.com instead.*needs a sign-in") as caught:
            get("http://drive.invalid/share", destination)

    assert "SECRET" not in str(caught.value)
    assert not destination.exists()


def test_a_page_does_not_cost_what_is_there(destination):
    """A link that expires in the middle of a download leaves the part for the day it works again."""
    page = Answer(PAGE % (b"expired", b""), content_type="text/html", ranges=False)
    with FileServer(Answer(CONTENT, drop_after=600_000), page, Answer(CONTENT)) as server:
        with pytest.raises(FetchError, match="titled 'expired'"):
            get(server.url, destination)
        assert not destination.exists()
        get(server.url, destination)

    assert_whole(destination)
    assert [bool(each) for each in server.ranges()] == [False, True, True]


def test_a_safetensors_file_that_begins_like_a_page_is_a_file(destination):
    """A header of 60 or 123 bytes makes the first byte `<` or `{`."""
    for first in (b"<", b"{"):
        content = first + bytes(7) + b'{"x":{}}' + bytes(1000)
        with FileServer(Answer(content)) as server:
            get(server.url, destination)

        assert destination.read_bytes() == content
        destination.unlink()


def test_a_wrong_hash_names_both_and_leaves_nothing(destination):
    """A file that is not the pinned one is not kept, not even as a part."""
    with FileServer(Answer(OTHER)) as server, pytest.raises(FetchError) as caught:
        get(server.url, destination, sha256=SHA256)

    assert SHA256 in str(caught.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert not destination.exists()
    assert not part_of(destination).exists()
    assert len(server.requests) == 1


def test_a_hash_of_the_wrong_form_is_refused_before_anything_happens(destination):
    """A typing error is not found after five gigabytes."""
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        get("http://127.0.0.1:1/file", destination, sha256="abc")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize("retry_after", ["0", None])
def test_a_busy_server_is_asked_again(destination, status, retry_after):
    """Statuses that pass are not the end."""
    busy = Answer(b"busy", status, headers={"Retry-After": retry_after} if retry_after else {})
    with FileServer(busy, busy, Answer(CONTENT)) as server:
        get(server.url, destination)

    assert_whole(destination)
    assert len(server.requests) == 3


def test_retry_after_is_waited_for_as_seconds_and_as_a_date(destination, caplog, monkeypatch):
    """The server's wish goes before our own back-off, at most a minute of it."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    soon, late = (
        format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True) for seconds in (50, 5000)
    )
    answers = [Answer(b"", 503, headers={"Retry-After": when}) for when in ("7", soon, late)]
    with FileServer(*answers, Answer(CONTENT)) as server, caplog.at_level(logging.WARNING):
        get(server.url, destination)

    assert_whole(destination)
    assert (waits[0], waits[2]) == (7, 60)
    assert 1 < waits[1] <= 50
    assert "503 Service Unavailable; next try in 7.0 s" in caplog.text


def test_a_server_that_stays_busy_is_given_up(destination):
    """The last answer is named, and nothing is left."""
    with FileServer(Answer(b"", 429)) as server, pytest.raises(FetchError, match=r"429 Too Many Requests, a quota"):
        get(server.url, destination, retries=2)

    assert len(server.requests) == 3
    assert not destination.exists()
    assert not part_of(destination).exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418])
def test_a_final_status_is_an_error_at_once(destination, status):
    """What no second try can mend is said after the first."""
    with FileServer(Answer(b"", status)) as server, pytest.raises(FetchError, match=rf"answered {status}.*--from-file"):
        get(server.url, destination)

    assert len(server.requests) == 1
    assert not destination.exists()


def test_a_stalled_connection_times_out_and_resumes(destination):
    """Silence in the middle of the body is a broken connection."""
    with FileServer(Answer(CONTENT, stall_after=600_000), Answer(CONTENT)) as server:
        get(server.url, destination, timeout=(60, 1))

    assert_whole(destination)
    assert re.fullmatch(r"bytes=[1-9]\d+-", server.ranges()[-1])


def test_two_processes_at_once_make_one_download(destination):
    """The second says that it waits, then finds the file."""
    waits = threading.Event()
    with FileServer(Answer(CONTENT, gate=waits)) as server:
        children = [process(server.url, destination, sha256=SHA256) for _ in range(2)]
        said = talk_of(children, awaited="another process is fetching", heard=waits)

    assert [child.returncode for child in children] == [0, 0]
    assert_whole(destination)
    assert len(server.requests) == 1
    assert sum("another process is fetching" in each for each in said) == 1


def test_a_full_disk_is_a_clear_error_and_goes_on_later(destination):
    """A file-size limit stands for the full disk: no file, an error that says what to do, and a part to go on from."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
    with FileServer(Answer(CONTENT)) as server:
        child = process(server.url, destination, before=limit)
        said = child.communicate(timeout=300)[1]
        assert child.returncode == 1
        assert "FetchError: the disk or quota is full" in said
        assert not destination.exists()
        assert part_of(destination).stat().st_size == 300_000
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)
    assert server.ranges() == [None, "bytes=300000-"]


def test_too_little_room_is_found_before_a_byte_is_written(destination):
    """A size that the disk cannot hold is refused with what is needed and what is free."""
    size = 1 << 60
    with FileServer(Answer(b"", length=False, headers={"Content-Length": str(size)})) as server:
        url = server.on("/huge", Answer(CONTENT, length=False, headers={"Content-Length": str(size)}))
        with pytest.raises(FetchError, match=rf"not enough room .* {int(size * 1.05)} bytes needed, \d+ free"):
            get(url, destination)

    assert not destination.exists()
    assert not part_of(destination).exists()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(FetchError, match="cannot use"):
        get("http://127.0.0.1:1/file", tmp_path / "models" / "deep" / "weights.pth")


def test_compression_is_not_asked_for(destination):
    """A server that compresses for whoever accepts it sends us the file as it is."""
    with FileServer(Answer(CONTENT, gzipped=True)) as server:
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


def test_compression_that_comes_all_the_same_is_undone_and_never_resumed(destination):
    """The ranges of an encoded answer are not those of the file."""
    body = gzip.compress(CONTENT)
    forced = {"headers": {"Content-Encoding": "gzip"}, "ranges": True}
    with FileServer(Answer(body, drop_after=600_000, **forced), Answer(body, **forced)) as server:
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)
    assert server.ranges() == [None, None]


def test_no_credential_is_ever_shown_or_stored(destination, caplog):
    """Errors, their tracebacks, logs, notes and records hold neither password nor token, yet the server gets them."""
    with (
        FileServer(Answer(CONTENT, drop_after=600_000), Answer(b"", 404)) as server,
        caplog.at_level(logging.DEBUG, "motivnet_cli"),
    ):
        url = server.url.replace("://", "://NAME:PASSWORD@") + "?token=TOKEN&BARE#FRAGMENT"
        with pytest.raises(FetchError) as refused:
            get(url, destination)
        note = note_of(destination).read_text()
        server.on("/file", Answer(CONTENT))
        fetched = get(url, destination)
    with pytest.raises(FetchError) as unreachable:
        get(url, destination.with_name("another"))

    shown = [note, caplog.text, repr(fetched)]
    shown += ["".join(traceback.format_exception(each.value)) for each in (refused, unreachable)]
    assert server.requests[0].path == "/file?token=TOKEN&BARE"
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    assert "next try" in caplog.text
    assert all(server.url in text for text in shown)
    assert not [text for text in shown if re.search("NAME|PASSWORD|TOKEN|BARE|FRAGMENT", text)]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a:b@host:8443/x/y@1?sig=s#f", "https://host:8443/x/y@1"),
        ("https://a:b@c@[::1]:80/x", "https://[::1]:80/x"),
        ("https://user:pass/word@host/x", "https://..."),
        ("https://[bad/x?y", "https://..."),
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("simplecache::s3://key:secret@bucket/x", "simplecache::s3://bucket/x"),
        ("hf://owner/repo/file@main", "hf://owner/repo/file@main"),
        ("file:///tmp/x", "file:///tmp/x"),
        ("just words?secret", "just words"),
    ],
)
def test_redacted_keeps_what_names_the_file(url, shown):
    """User, password, query and fragment go; what cannot be read goes whole."""
    assert redacted(url) == shown


def test_a_refused_connection_is_an_error_at_once(destination):
    """Nobody listens: no row of retries, but the way on."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/file"
        with pytest.raises(FetchError, match=r"cannot be reached: 127.0.0.1: Connection refused\..*--from-file PATH"):
            get(url, destination, backoff_seconds=100)

    assert not destination.exists()
    assert not part_of(destination).exists()


def test_a_name_that_does_not_resolve_is_an_error_at_once(destination):
    """`.invalid` never resolves (RFC 2606), with a network or without."""
    with pytest.raises(FetchError, match=r"cannot be reached: the name host.invalid could not be looked up"):
        get("https://host.invalid/file", destination, backoff_seconds=100)

    assert not destination.exists()


def test_offline_touches_no_network(destination):
    """The error comes before any connection and says what to do; file:// still works."""
    refused = pytest.raises(FetchError, match=r"offline mode is on.*--from-file PATH")
    with FileServer(Answer(CONTENT)) as server, refused:
        get(server.url, destination, offline=True)
    assert server.requests == []
    assert not destination.parent.exists()

    source = destination.parent.parent / "source.pth"
    source.write_bytes(CONTENT)
    get(source.as_uri(), destination, offline=True)
    assert_whole(destination)


def test_the_proxy_of_the_environment_is_used(destination, monkeypatch):
    """A host that only the proxy can reach."""
    with FileServer(Answer(CONTENT)) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
        get("http://far.invalid/file", destination)

    assert_whole(destination)
    assert server.requests[0].path == "http://far.invalid/file"


def test_ctrl_c_leaves_a_part_to_go_on_from(destination):
    """KeyboardInterrupt in the middle passes through and costs no byte."""

    def interrupt(done, total):
        if done > 500_000:
            raise KeyboardInterrupt

    with FileServer(Answer(CONTENT)) as server:
        with pytest.raises(KeyboardInterrupt):
            get(server.url, destination, progress=interrupt)
        assert not destination.exists()
        get(server.url, destination, sha256=SHA256)

    assert_whole(destination)
    assert server.ranges()[1].startswith("bytes=5")


def test_a_file_url_is_copied_with_the_same_care(tmp_path, destination):
    """Spaces and all; a wrong hash and a missing file are errors that leave nothing."""
    source = tmp_path / "a b %.pth"
    source.write_bytes(CONTENT)
    with pytest.raises(FetchError, match="is not the expected file"):
        get(source.as_uri(), destination, sha256="0" * 64)
    with pytest.raises(FetchError, match=r"cannot read .*No such file"):
        get((tmp_path / "none").as_uri(), destination)
    assert not destination.exists()

    assert get(source.as_uri(), destination, sha256=SHA256).size == len(CONTENT)
    assert_whole(destination)


def test_other_schemes_go_through_fsspec(destination):
    """Any file system that fsspec has; what is missing is named with the line that installs it."""
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/folder/file", CONTENT)
    get("memory://folder/file", destination, sha256=SHA256)
    assert_whole(destination)

    for url, message in (
        ("memory://folder/none", "FileNotFoundError"),
        ("nonsense://key:SECRET@folder/none", r"nonsense://folder/none could not be read \(ValueError"),
        ("weights.pth", "is not a URL"),
    ):
        with pytest.raises(FetchError, match=message):
            get(url, destination.with_name("another"))


@pytest.mark.parametrize("outcome", ["whole", "dropped", "missing"])
def test_hub_urls_go_through_the_hubs_client(destination, outcome):
    """With HF_ENDPOINT set to a server here; what the client leaves behind is cleared away."""
    pytest.importorskip("huggingface_hub")
    headers = {"X-Repo-Commit": "0" * 40, "Accept-Ranges": "bytes"}
    drop = {"drop_after": 1000, "ranges": False} if outcome == "dropped" else {}
    with FileServer() as server:
        if outcome != "missing":
            server.on("/owner/repo/resolve/v1/deep/file.pth", Answer(CONTENT, headers=headers, **drop))
        environment = (
            f"import os; os.environ |= dict(HF_ENDPOINT='http://127.0.0.1:{server.port}', "
            f"HF_HUB_DISABLE_TELEMETRY='1', HF_HOME={str(destination.parent.parent / 'hub')!r})\n"
        )
        child = process("hf://owner/repo/deep/file.pth@v1", destination, before=environment, sha256=SHA256)
        said = child.communicate(timeout=300)[1]

    if outcome == "whole":
        assert child.returncode == 0, said
        assert_whole(destination)
    else:
        assert "FetchError: hf://owner/repo/deep/file.pth@v1 did not come from the hub" in said
        assert {path.name for path in destination.parent.iterdir()} <= {destination.name + ".lock"}


@pytest.mark.parametrize(
    ("share", "direct"),
    [
        (
            "https://uni-my.sharepoint.com/:u:/g/personal/some_one/IQD5?e=H7vRd4",
            "https://uni-my.sharepoint.com/:u:/g/personal/some_one/IQD5?e=H7vRd4&download=1",
        ),
        (
            "https://uni.sharepoint.com/:u:/s/site/IQD5?download=0&e=x",
            "https://uni.sharepoint.com/:u:/s/site/IQD5?e=x&download=1",
        ),
        (
            "https://1drv.ms/u/s!Abc?e=1",
            "https://api.onedrive.com/v1.0/shares/u!aHR0cHM6Ly8xZHJ2Lm1zL3UvcyFBYmM_ZT0x/root/content",
        ),
        ("https://onedrive.live.com/download?resid=1", "https://onedrive.live.com/download?resid=1"),
        (
            "https://uni.sharepoint.com/_layouts/15/download.aspx?x=1",
            "https://uni.sharepoint.com/_layouts/15/download.aspx?x=1",
        ),
        ("https://host/:u:/file?e=1", "https://host/:u:/file?e=1"),
        ("https://[bad/file", "https://[bad/file"),
    ],
)
def test_share_links_become_direct_ones(share, direct):
    """Known hosts only; everything else stays as it is."""
    assert direct_url(share) == direct
