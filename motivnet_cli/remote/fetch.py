"""Download one file from a URL to a path: resumed where it broke off, verified, whole or not at all.

Bytes gather in `<destination>.part`, beside a `<destination>.part.json` that says which version of which file they
begin; only a complete and verified file gets the name `destination`. What the file holds is not known here. Every URL
that is shown, logged or stored is `redacted`, and foreign exceptions are not chained, because their texts hold whole
URLs.
"""

from __future__ import annotations

import contextlib
import errno
import html
import itertools
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import filelock

from motivnet_cli.durable import sha256_of, sync
from motivnet_cli.errors import ConfigError, FetchError
from motivnet_cli.remote import http
from motivnet_cli.remote.http import Version
from motivnet_cli.remote.retries import InterruptedTryError, RefusedError, seconds_before_retry
from motivnet_cli.remote.urls import redacted

if TYPE_CHECKING:
    from types import TracebackType

    import requests

FetchProgress = Callable[[int, int | None], None]
"""Called with the bytes that are here, those of earlier starts included, and the whole size if it is known."""
_LOG = logging.getLogger(__name__)
_COPY_BYTES = 1 << 20
_HEAD_BYTES = 512  # enough to tell a page from a file
_PAGE_BYTES = 1 << 16  # enough of a page to find its title
_NEEDED_SPACE = 1.05  # of a file's size: file systems need some for themselves
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BY_HAND = "Download the file in a browser or on another machine, then `motivnet download-weights --from-file PATH`."


@dataclass(frozen=True, slots=True)
class Fetched:
    """The file that is now at the destination."""

    sha256: str
    """Of its bytes, 64 lower-case hexadecimal digits."""
    size: int
    """Bytes."""
    etag: str | None
    last_modified: str | None
    """The server's validators, as it wrote them; None where it gave none or the file was here already."""
    source: str
    """The URL as given, redacted."""


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    progress: FetchProgress = lambda done, total: None,
    retries: int = 5,
    timeout: tuple[float, float] = http.TIMEOUT_SECONDS,
    backoff_seconds: float = 1.0,
    offline: bool = False,
) -> Fetched:
    """Bring the file of `url` to `destination`, whole and verified, or leave nothing there.

    An interrupted download goes on where it stopped, in this process or a later one, as long as the server still
    has the same file. A file that is already at `destination` is taken as fetched: it is hashed, not downloaded.
    Of two processes with one destination, the second waits (and logs that it does) and then finds the file.

    Args:
        url: http(s)://, with share links of OneDrive and SharePoint understood; file://;
            hf://owner/repo/path[@revision] through huggingface_hub; any other scheme through fsspec.
        sha256: What the file must hash to. Without it, only size and validators vouch for the bytes.
        retries: How many tries in a row may bring nothing new before it gives up.
        timeout: Seconds to wait for a connection, and for the next bytes.
        backoff_seconds: About the wait after the first failure; it doubles from there, at most 60 s. A server's
            `Retry-After` goes before it.
        offline: Touch no network: anything but file:// and a file already there is an error at once.

    Raises:
        FetchError: The file cannot be had, what came is not the file, or it cannot be written. The message says
            what to do. Bytes that a later call can use stay in `<destination>.part`.
        ConfigError: `sha256` is not a SHA-256.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"a sha256 has 64 hexadecimal digits, got {sha256!r}")
    task = _Task(url, redacted(url), sha256 and sha256.lower(), progress, retries, timeout, backoff_seconds)
    if not re.match(r"[A-Za-z][\w+.-]*://", url):
        raise FetchError(
            f"{task.name!r} is not a URL such as https://host/file. Give a local file with --from-file PATH."
        )
    if destination.exists():
        return _already_there(destination, task)
    if offline and task.scheme != "file":
        raise FetchError(f"{task.name} was not fetched: offline mode is on. {_BY_HAND}")
    with _locked(destination):
        if destination.exists():
            return _already_there(destination, task)
        with _Part(destination, task.name) as part:
            version, digest = _transfer_verified(task, part)
            size = part.size
            part.install(destination)
    return Fetched(digest, size, version.etag, version.last_modified, task.name)


@dataclass(frozen=True, slots=True)
class _Task:
    """The arguments of `fetch`."""

    url: str
    name: str
    """The URL as it may be shown."""
    sha256: str | None
    progress: FetchProgress
    retries: int
    timeout: tuple[float, float]
    backoff_seconds: float

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()

    def is_wrong(self, digest: str) -> bool:
        return self.sha256 is not None and digest != self.sha256


class _Part:
    """The bytes that are here so far, on disk, with a note of the version that they begin."""

    def __init__(self, destination: Path, url: str) -> None:
        self.path = destination.with_name(destination.name + ".part")
        self.version: Version | None = None
        self.is_pieced = False
        """The bytes came by more than one answer."""
        self._note = destination.with_name(destination.name + ".part.json")
        self._url = url

    def __enter__(self) -> _Part:
        with _writing(self.path):
            self._file = self.path.open("ab", buffering=0)
            self.size = self._file.tell()
            self.is_pieced = self.size > 0
            self.version = self._read_note()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self.size == 0:
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget the bytes; before their note, so that a note never speaks of another file's bytes."""
        with _writing(self.path):
            self._file.truncate(0)
            self.size, self.version, self.is_pieced = 0, None, False
            self._note.unlink(missing_ok=True)

    def begin(self, version: Version) -> None:
        """Start over with the first byte of `version`."""
        self.clear()
        with _writing(self.path):
            temporary = self._note.with_name(self._note.name + ".tmp")
            temporary.write_text(json.dumps({"url": self._url, **asdict(version)}, indent=1), encoding="utf-8")
            temporary.replace(self._note)
        self.version = version

    def append(self, chunk: bytes) -> None:
        with _writing(self.path):
            left = memoryview(chunk)
            while left:  # an unbuffered file may take a part only
                count = self._file.write(left)
                self.size += count
                left = left[count:]

    def adopt(self, path: Path) -> None:
        """Take a whole file of another place on the same disk."""
        with _writing(self.path):
            self.clear()
            self._file.close()
            path.replace(self.path)
            self._file = self.path.open("ab", buffering=0)
            self.size = self._file.tell()

    def sha256(self) -> str:
        """Of the bytes on disk, read again: what was written may not be what arrived."""
        return sha256_of(self.path)

    def install(self, destination: Path) -> None:
        with _writing(destination):
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.replace(destination)
            sync(destination.parent)
            self._note.unlink(missing_ok=True)

    def _read_note(self) -> Version | None:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            if note.pop("url") == self._url:
                return Version(**note)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            pass  # no note, or not one of ours: the bytes are of no use
        return None


def _transfer_verified(task: _Task, part: _Part) -> tuple[Version, str]:
    """Bring the whole file into `part`: its version, and its SHA-256, which is the expected one if there is one."""
    version = _transfer(task, part)
    digest = part.sha256()
    if task.is_wrong(digest) and part.is_pieced:
        _LOG.warning("%s: the pieces do not make the expected file; starting over", task.name)
        part.clear()
        version = _transfer(task, part)
        digest = part.sha256()
    if task.is_wrong(digest):
        size = part.size
        part.clear()
        raise FetchError(
            f"{task.name} is not the expected file: its sha256 is {digest} ({size} bytes), expected {task.sha256}. "
            "Nothing was kept. Check the URL and the hash; the file may have been replaced."
        )
    return version, digest


def _transfer(task: _Task, part: _Part) -> Version:
    if task.scheme in ("http", "https"):
        return _over_http(task, part)
    if task.scheme == "file":
        return _from_disk(task, part)
    if task.scheme == "hf":
        return _from_hub(task, part)
    return _through_fsspec(task, part)


def _over_http(task: _Task, part: _Part) -> Version:
    if part.version is not None and part.version.size == part.size:
        return part.version  # died between the last byte and the rename
    furthest, failures, reached = part.size, 0, False
    # One session: the cookies of the share host's redirects hold for the following tries.
    with http.new_session() as session:
        while isinstance(outcome := _attempt(session, task, part), InterruptedTryError):
            if outcome.is_unreachable and not reached:
                raise FetchError(f"{task.name} cannot be reached: {outcome}. {_BY_HAND}")
            reached = reached or not outcome.is_unreachable
            # A server without Range brings the same bytes each time: only new ground counts as progress.
            if part.size > furthest:
                furthest, failures = part.size, 0
            failures += 1
            if failures > task.retries:
                kept = f" {part.size} bytes are kept in {part.path}: the same command goes on from there."
                raise FetchError(
                    f"{task.name} was given up after {task.retries} retries that brought nothing new; the last: "
                    f"{outcome}.{kept if part.size else ''} Try again later, or: {_BY_HAND}"
                )
            wait = seconds_before_retry(failures, asked=outcome.wait_seconds, backoff_seconds=task.backoff_seconds)
            _LOG.warning("%s: %s; next try in %.1f s", task.name, outcome, wait)
            time.sleep(wait)
        return outcome


def _attempt(session: requests.Session, task: _Task, part: _Part) -> Version | InterruptedTryError:
    """One request, always to the original URL: where it redirects to carries tokens that expire."""
    known = part.version
    start = part.size if known is not None and _can_resume(known, task) else 0
    try:
        with http.get(session, task.url, start=start, version=known, timeout=task.timeout) as response:
            return _receive(response, task, part, start)
    except InterruptedTryError as interrupted:
        return interrupted
    except RefusedError as refused:
        raise FetchError(f"{task.name} {refused}. {_BY_HAND}") from None


def _can_resume(version: Version, task: _Task) -> bool:
    """Whether anything could tell that the rest belongs to another file: a validator, or a pinned hash."""
    return bool(version.etag or version.last_modified) or (task.sha256 is not None and version.size is not None)


def _receive(response: requests.Response, task: _Task, part: _Part, start: int) -> Version:
    """Put the answer's bytes behind the first `start` ones, and return what they are a version of."""
    answer = http.Answer.of(response)
    offered = Version() if answer.is_encoded else answer.version  # what is encoded cannot be resumed
    known = part.version
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and known is not None and start:
        if offered.size == start and known.may_be(offered):
            return known
        part.clear()
        raise InterruptedTryError("the server has another file now")
    http.check_status(response)
    is_rest = response.status_code == HTTPStatus.PARTIAL_CONTENT
    chunks = http.chunks(response, task.url, timeout=task.timeout)
    head = _at_least(_HEAD_BYTES, chunks)
    _refuse_page(response, task, head, chunks, is_rest=is_rest)
    if not head:
        raise InterruptedTryError("the connection closed before the first byte")
    if is_rest:
        if known is None or answer.first != start or not start or not known.may_be(offered):
            part.clear()
            raise InterruptedTryError("the server has another file now, or sent another range than asked for")
        part.is_pieced = True
        _check_space(task, part, offered.size)
    else:
        _check_space(task, part, offered.size, is_anew=True)
        part.begin(offered)
    for chunk in itertools.chain((b"",), (head,), chunks):
        part.append(chunk)
        task.progress(part.size, offered.size)
    length = http.number_in(response.headers.get("Content-Length", ""))
    if offered.size not in (None, part.size) or (length is not None and response.raw.tell() < length):
        raise InterruptedTryError(f"the connection closed after {part.size} of {offered.size or length} bytes")
    return part.version or offered


def _refuse_page(
    response: requests.Response, task: _Task, head: bytes, chunks: Iterator[bytes], *, is_rest: bool
) -> None:
    """Raise if a page came in place of the file, before what is here already is touched."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in ("text/html", "application/xhtml+xml") and (is_rest or not _reads_as_page(head)):
        return
    with contextlib.suppress(InterruptedTryError):
        head += _at_least(_PAGE_BYTES - len(head), chunks)
    text = head[:_PAGE_BYTES].decode("utf-8", "replace")
    found = re.search(r"<title[^<>]*>([^<]*)</title>", text, re.IGNORECASE)
    title = " ".join(html.unescape(found[1]).split())[:120] if found else ""
    words = re.sub(r"<(script|style)\b.*?(</\1>|\Z)|<[^<>]*>", " ", text, flags=re.IGNORECASE | re.DOTALL)[:2000]
    host = urlsplit(response.url).hostname or ""
    if re.match(r"(login|signin|sso|accounts?)\.", host) or re.search(r"\b(sign|log)[ -]?in\b", title, re.IGNORECASE):
        meaning = "the link needs a sign-in, or it was revoked"
    elif re.search(r"\bquota\b|\blimit|\btoo many\b", f"{title} {words}", re.IGNORECASE):
        meaning = "a quota or download limit is used up; it may work again later"
    else:
        meaning = "the link has expired, or it shows a page about the file"
    # Titles may echo addresses: show plain words only.
    plain = " ".join(word if re.fullmatch(r"[^=?@%/]{1,40}", word) else "..." for word in title.split())
    named = f" titled {plain!r}" if plain else ""
    raise FetchError(f"{task.name} answered with a page{named} from {host} instead of the file: {meaning}. {_BY_HAND}")


def _reads_as_page(head: bytes) -> bool:
    """HTML, XML or JSON. A safetensors file may begin with the same byte, but has a zero byte among its first 8."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return b"\0" not in head and re.match(rb"<[!?a-zA-Z]|[{\[]", text) is not None


def _at_least(count: int, chunks: Iterator[bytes]) -> bytes:
    """The next `count` bytes or more, fewer only at the end."""
    taken = bytearray()
    while len(taken) < count and (chunk := next(chunks, None)) is not None:
        taken += chunk
    return bytes(taken)


def _from_disk(task: _Task, part: _Part) -> Version:
    parts = urlsplit(task.url)
    if parts.netloc not in ("", "localhost"):
        raise FetchError(f"{task.name} names another machine; a file here is written file:///absolute/path")
    path = Path(url2pathname(parts.path))
    try:
        source = path.open("rb")
    except OSError as error:
        raise FetchError(f"cannot read {path}: {error.strerror}") from error
    with source:
        return _copy(source, path.stat().st_size, task, part)


def _from_hub(task: _Task, part: _Part) -> Version:
    """The hub's client does not resume across processes: it brings the file whole or not at all."""
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)/([^@]+)(?:@([^@]+))?", task.url, re.IGNORECASE)
    if not match:
        raise FetchError(
            f"{task.name} does not name a file on the hub: write hf://owner/repo/path or .../path@revision"
        )
    repository, name, revision = match.groups()
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError
    except ImportError:
        raise _needs_hub(task.name) from None
    # The bases: the root error of the HTTP library underneath, which is another one in every major version.
    transport = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    failures: tuple[type[Exception], ...] = (OSError, ValueError, EntryNotFoundError, *transport)
    # Beside the destination, not in the hub's own cache: five gigabytes would lie on the disk twice.
    folder = part.path.with_name(part.path.name + ".hub")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        path = huggingface_hub.hf_hub_download(repository, name, revision=revision, local_dir=folder)
        part.adopt(Path(path))
    except GatedRepoError:
        raise FetchError(
            f"{task.name} is gated: accept the terms at https://huggingface.co/{repository} and sign in with "
            f"`hf auth login`. {_BY_HAND}"
        ) from None
    except failures as error:
        if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
            raise _cannot_write(part.path, error) from None
        raise FetchError(
            f"{task.name} did not come from the hub ({type(error).__name__}): check the name and the network. "
            f"{_BY_HAND}"
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    task.progress(part.size, part.size)
    return Version(size=part.size)


def check_library(url: str) -> None:
    """Raise what `fetch` would for want of the hub's client, which comes with an extra.

    Raises:
        FetchError: It is not installed.
    """
    if url.lower().startswith("hf://") and find_spec("huggingface_hub") is None:
        raise _needs_hub(redacted(url))


def _needs_hub(name: str) -> FetchError:
    return FetchError(f"{name} needs huggingface_hub: pip install 'motivnet-cli[hub]'")


def _through_fsspec(task: _Task, part: _Part) -> Version:
    try:
        import fsspec

        with fsspec.open(task.url, "rb") as source:
            return _copy(source, getattr(source, "size", None), task, part)
    except ImportError:
        raise FetchError(
            f"{task.name} needs fsspec and its driver for {task.scheme}://: pip install 'motivnet-cli[remote]'"
        ) from None
    except (OSError, ValueError) as error:
        raise FetchError(
            f"{task.name} could not be read ({type(error).__name__}): check the URL and the credentials. {_BY_HAND}"
        ) from None


def _copy(source: IO[bytes], size: int | None, task: _Task, part: _Part) -> Version:
    version = Version(size=size)
    _check_space(task, part, size, is_anew=True)
    part.begin(version)
    task.progress(0, size)
    while chunk := source.read(_COPY_BYTES):
        part.append(chunk)
        task.progress(part.size, size)
    if size not in (None, part.size):
        raise FetchError(f"{task.name} gave {part.size} bytes of {size}: it changed while it was read. Try again.")
    return version


def _already_there(destination: Path, task: _Task) -> Fetched:
    with _writing(destination):
        digest, size = sha256_of(destination), destination.stat().st_size
    if task.is_wrong(digest):
        raise FetchError(
            f"{destination} exists and is another file: its sha256 is {digest}, expected {task.sha256}. "
            "Remove it, then run the same command again."
        )
    return Fetched(digest, size, None, None, task.name)


@contextlib.contextmanager
def _locked(destination: Path) -> Iterator[None]:
    """Hold the destination's lock, which the system frees if the process dies."""
    with _writing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{destination}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _LOG.warning("another process is fetching %s: waiting for it", destination)
        lock.acquire()
    except OSError as error:
        raise _cannot_write(destination, error) from error
    try:
        yield
    finally:
        lock.release()


def _check_space(task: _Task, part: _Part, size: int | None, *, is_anew: bool = False) -> None:
    """Raise if the disk cannot hold the rest; `is_anew` means that the bytes here will make room."""
    if size is None:
        return
    needed = int((size if is_anew else size - part.size) * _NEEDED_SPACE)
    free = shutil.disk_usage(part.path.parent).free + (part.size if is_anew else 0)
    if needed > free:
        raise FetchError(
            f"not enough room for {task.name} in {part.path.parent}: {needed} bytes needed, {free} free. "
            "Free some, or choose a folder on another disk."
        )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> FetchError:
    if error.errno in _DISK_IS_FULL:
        return FetchError(
            f"the disk or quota is full ({error.strerror}) at {path}. Free some room and run the same command again, "
            "which goes on from there, or choose a folder on another disk; home folders of clusters have small quotas."
        )
    return FetchError(f"cannot use {path}: {error.strerror}. Choose a folder that can be written.")
