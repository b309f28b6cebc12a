"""A tar or zip archive -> its pictures, one after the other; nothing in it is ever unpacked to the disk.

It does not decode. Names in an archive are data: they are shown as they are, and no file is opened or
written by them. Memory is that of the largest picture allowed, plus about 60 bytes a member to tell repeated
names apart; the index of a zip is read whole, about 600 bytes a member. Members keep their order, so that
`skip` leaves exactly the rest.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from motivnet_cli.errors import InputError, error_type_of
from motivnet_cli.inputs.names import kind_of, printable, suffix_of
from motivnet_cli.records import Problem
from motivnet_cli.remote.files import open_remote
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

try:
    from compression import zstd  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # before Python 3.14
    zstd = None

MAX_MEMBER_BYTES = 256 << 20
"""Far more than any camera's JPEG, and what a worker can hold beside the picture itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """One picture of an archive, or the reason why it is none."""

    number: int
    """Position among the members that are answered for, from 0."""
    name: str
    """As the archive has it, fit to be printed; the second of one name ends in `#2`, and so on."""
    data: bytes = field(default=b"", repr=False)
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What became of the archive as a whole."""

    num_members: int
    """Members answered for, those that were skipped included."""
    problem: Problem | None
    """Why the archive, or the rest of it, could not be read."""
    skipped: dict[str, int]
    """Members that are no pictures by their ending, and `hidden` ones: which -> count."""


class Archive:
    """The pictures of an archive, in its own order; iterate once, then ask for the `report`.

    The format is told from the content: tar, alone or compressed by gzip, bzip2, xz or (from Python 3.14) zstd, and
    zip. Folders, hidden members and those of other endings are passed over and counted, as in a folder. Links,
    devices, encrypted or damaged members, videos, archives in the archive, and whatever is larger than
    `max_member_bytes` come with a problem in place of data. A break in the archive ends it: what came before stays.

    Args:
        source: Path of a file, URL, or an open file, which stays open. A zip has to be seekable.
        max_member_bytes: Reading a member stops here, whatever its header says.
        skip: So many members are passed by unread: those that an earlier run has answered for.
    """

    def __init__(self, source: str | IO[bytes], *, max_member_bytes: int = MAX_MEMBER_BYTES, skip: int = 0) -> None:
        self._source = source
        self._max_bytes = max_member_bytes
        self._skip = skip
        self._names = _Names()
        self._skipped: Counter[str] = Counter()
        self._problem: Problem | None = None
        self._num_members = 0
        self._broken: Exception | None = None

    @property
    def report(self) -> ArchiveReport:
        """Whole once the iteration has ended; it is the same whatever `skip` was."""
        return ArchiveReport(self._num_members, self._problem, dict(self._skipped))

    def __iter__(self) -> Iterator[Member]:
        try:
            if isinstance(self._source, str):
                with _opened(self._source) as file:
                    yield from self._members(file)
            else:
                yield from self._members(self._source)
        except InputError as error:
            self._problem = Problem.of(error)
        except _READ_FAILURES as error:
            self._problem = _problem_of(error, "archive")

    def _members(self, file: IO[bytes]) -> Iterator[Member]:
        file, head = _with_head(file)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
            yield from self._of_zip(file)
            return
        opener = next((opener for magic, opener in _OPENERS if head.startswith(magic)), None)
        if opener is None:
            yield from self._of_tar(_Forward(file, can_seek=file.seekable()))
            return
        with opener(file) as plain:
            yield from self._of_tar(_Forward(plain, can_seek=False))

    def _of_tar(self, file: _Forward) -> Iterator[Member]:
        file.expect_header()
        try:
            tar = tarfile.open(  # noqa: SIM115 - closed below
                fileobj=cast("IO[bytes]", file), mode="r:", encoding="utf-8", errors="surrogateescape"
            )
        except EOFError as error:
            raise InputError("truncated", "the file ends within its first header: cut short, or no archive") from error
        except tarfile.ReadError as error:
            raise InputError("not_an_archive", f"neither a tar nor a zip begins as this file does: {error}") from error
        with tar:
            while entry := _next_of(tar, file):
                if entry.isdir():
                    continue
                refusal = None
                if not entry.isreg():
                    refusal = Problem("not_a_file", f"a {_TAR_TYPES.get(entry.type, 'special entry')}, not a file")
                member = self._answer(entry.name, entry.size, refusal, partial(_read_tar, tar, entry, file))
                if member:
                    yield member
                if self._broken:
                    raise self._broken  # a tar has no way to go on behind what cannot be read
            file.check_end()

    def _of_zip(self, file: IO[bytes]) -> Iterator[Member]:
        if not file.seekable():
            message = "the index of a zip stands at its end, and this source only reads from the front: download it"
            raise InputError("unsupported", message)
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.is_dir():
                    continue
                mode = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
                refusal = None
                if mode and not stat.S_ISREG(mode):
                    kind = "symbolic link" if stat.S_ISLNK(mode) else "special entry"
                    refusal = Problem("not_a_file", f"a {kind}, not a file")
                elif entry.flag_bits & _ENCRYPTED:
                    refusal = Problem("unsupported", "the member is encrypted: unpack the archive with its password")
                member = self._answer(_zip_name(entry), entry.file_size, refusal, partial(_read_zip, archive, entry))
                if member:
                    yield member

    def _answer(self, name: str, size: int, refusal: Problem | None, read: Callable[[], bytes]) -> Member | None:
        """The member, or None where it is passed over."""
        kind = kind_of(name)
        parts = name.split("/")
        if "__MACOSX" in parts or any(part.startswith(".") and part.strip(".") for part in parts):
            self._skipped["hidden"] += 1
            return None
        if not refusal and kind is None:
            self._skipped[suffix_of(name) or "no ending"] += 1
            return None
        number = self._num_members
        self._num_members += 1
        name = self._names.unique(printable(name))
        if number < self._skip:
            return None
        if not refusal and kind != "image":
            refusal = Problem("unsupported", f"{kind}s inside archives are not read: unpack it beside the archive")
        elif not refusal and size > self._max_bytes:
            message = f"the member has {size} bytes, more than the {self._max_bytes} that are read of one"
            refusal = Problem("too_large", message)
        if refusal:
            return Member(number, name, problem=refusal)
        try:
            return Member(number, name, read())
        except InputError as error:
            self._broken = error
            return Member(number, name, problem=Problem.of(error))
        except _READ_FAILURES as error:
            self._broken = error
            return Member(number, name, problem=_problem_of(error, "member"))


class _Names:
    """Tells repeated names apart. Hashes stand for names: two that agree by chance cost a needless `#2`."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        if self._is_new(name):
            return name
        number = self._next.get(name, 2)
        while not self._is_new(f"{name}#{number}"):
            number += 1
        self._next[name] = number + 1
        return f"{name}#{number}"

    def _is_new(self, name: str) -> bool:
        key = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


class _Forward:
    """What tarfile reads through: from front to back, and never more for one header than a header may have.

    tarfile takes the end of the file, and a damaged header, for the end of the archive, and would allocate
    whatever size a header names.
    """

    def __init__(self, file: IO[bytes], *, can_seek: bool) -> None:
        self._file = file
        self._can_seek = can_seek
        self._position = 0
        self._allowed = 0
        self._may_end = False
        self._last_block = b""

    def expect_header(self) -> None:
        self._allowed = _MAX_HEADER_BYTES
        self._may_end = True

    def expect_data(self, size: int) -> None:
        self._allowed = size

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if self._can_seek:
            self._file.seek(position)
            self._position = position
        while self._position < position:
            skipped = len(self._file.read(min(_CHUNK_BYTES, position - self._position)))
            if not skipped:
                raise EOFError
            self._position += skipped

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._allowed:
            raise tarfile.ReadError(f"a header asks for {size} bytes")
        data = self._file.read(size)
        self._position += len(data)
        self._allowed -= len(data)
        is_first_block = self._may_end and size == tarfile.BLOCKSIZE
        if len(data) < size and (data or not is_first_block):
            raise EOFError
        if is_first_block:
            self._may_end = False
            self._last_block = data
        return data

    def check_end(self) -> None:
        """Raise unless tarfile stopped at the mark that ends an archive, with nothing behind it."""
        if not self._last_block:
            raise InputError("truncated", "the archive is cut short: the mark at its end is missing")
        if any(self._last_block):
            raise InputError("damaged", f"a header at byte {self._position - tarfile.BLOCKSIZE} is damaged")
        if any(self._file.read(_MAX_PADDING_BYTES)):
            message = "the archive goes on behind the mark at its end, as joined archives do: give them one by one"
            raise InputError("damaged", message)


_MAX_HEADER_BYTES = 4 << 20
"""For all the blocks of one header: names and attributes of files take kilobytes."""
_MAX_PADDING_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16


def _next_of(tar: tarfile.TarFile, file: _Forward) -> tarfile.TarInfo | None:
    file.expect_header()
    entry = tar.next()
    getattr(tar, "members", []).clear()  # it would keep every header (docs/decisions/0014-private-interfaces.md)
    if entry and entry.size < 0:  # tarfile goes round in circles on it, before CVE-2025-8194 was repaired
        raise tarfile.ReadError(f"a header gives a size of {entry.size} bytes")
    return entry


def _read_tar(tar: tarfile.TarFile, entry: tarfile.TarInfo, file: _Forward) -> bytes:
    file.expect_data(entry.size)
    if not entry.issparse():
        file.seek(entry.offset_data)
        return file.read(entry.size)
    content = tar.extractfile(entry)
    return content.read() if content else b""


def _read_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """At most the size that its header says: zipfile reads no further and then finds the checksum wrong."""
    # For these, zipfile expands whatever it has read: 4 KiB of bzip2 can become 90 MB, 64 KiB 1.4 GB.
    is_bounded = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    with archive.open(entry) as file:
        return b"".join(iter(partial(file.read, _CHUNK_BYTES if is_bounded else 4096), b""))


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """Many programs write UTF-8 without the flag that says so; zipfile then reads it as code page 437."""
    if entry.flag_bits & _UTF8:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


_TAR_TYPES = {
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "named pipe",
}
_UNIX, _ENCRYPTED, _UTF8 = 3, 0x1, 0x800


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if is_remote(path):
        with open_remote(path) as file:
            yield file
        return
    try:
        status = Path(path).stat()  # before opening: a named pipe would wait for a writer
        if not stat.S_ISREG(status.st_mode):
            raise InputError("not_a_file", "something else than a file stands where an archive was expected")
        if not status.st_size:
            raise InputError("empty_file", "the file holds 0 bytes")
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(error_type_of(error), f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL byte in the name
        raise InputError("not_found", f"cannot be read: {error}") from error
    with file:
        yield file


def _with_head(file: IO[bytes]) -> tuple[IO[bytes], bytes]:
    """The file from its start, and its first bytes."""
    head = file.read(_HEAD_BYTES)
    if file.seekable():
        file.seek(0)
        return file, head
    return io.BufferedReader(_Rejoined(head, file), _CHUNK_BYTES), head


class _Rejoined(io.RawIOBase):
    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        with memoryview(buffer).cast("B") as target:
            data = self._head or self._rest.read(len(target))
            count = min(len(data), len(target))
            target[:count] = data[:count]
        self._head = self._head[count:]
        return count


def _open_zstd(file: IO[bytes]) -> IO[bytes]:
    if zstd is None:
        raise InputError("unsupported", "zstd is read from Python 3.14 on: compress the archive with gzip, or not")
    opened: IO[bytes] = zstd.ZstdFile(file)
    return opened


def _refuse(file: IO[bytes]) -> IO[bytes]:
    raise InputError("unsupported", "only tar and zip archives are read: pack it anew as one of them")


_HEAD_BYTES = 8
_OPENERS: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file))),
    (b"BZh", lambda file: cast("IO[bytes]", bz2.BZ2File(file))),
    (b"\xfd7zXZ\0", lambda file: cast("IO[bytes]", lzma.LZMAFile(file))),  # noqa: SIM115 - closed by the caller
    (b"\x28\xb5\x2f\xfd", _open_zstd),
    (b"Rar!", _refuse),
    (b"7z\xbc\xaf\x27\x1c", _refuse),
)
"""How compressed archives begin; anything else is a tar or nothing."""

_READ_FAILURES = (
    # What the file system, tarfile, zipfile and the decompressors raise for bad archives.
    OSError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    *((zstd.ZstdError,) if zstd else ()),
    struct.error,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # among them NotImplementedError, for kinds of compression, and RecursionError
)


def _problem_of(error: Exception, what: str) -> Problem:
    """One of the `_READ_FAILURES`, put into a stable type and one sentence."""
    if isinstance(error, OSError) and error.errno is not None:
        return Problem("read_error", f"the {what} cannot be read: {error.strerror}")
    if isinstance(error, EOFError):
        return Problem("truncated", f"the {what} is cut short")
    if isinstance(error, NotImplementedError):
        return Problem("unsupported", f"the {what} is compressed in a way that is not read")
    return Problem("damaged", f"the {what} is damaged: {' '.join(str(error).split()) or type(error).__name__}")
