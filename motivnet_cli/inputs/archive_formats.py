"""How archives are read: the entries of a tar, plain or compressed, or of a zip, from the front and in their order.

Which of them are pictures, and what links come to, is the business of `archive`.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from motivnet_cli.errors import InputError, error_type_of
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


@dataclass(frozen=True, slots=True)
class Link:
    """A member that is another name of one."""

    name: str
    target: str | None
    """The name of that one, of a normal form; None where it lies outside of the archive."""
    as_given: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What an archive says of a member, and how to read it; only until the next one is asked for."""

    name: str
    size: int
    read: Callable[[], bytes]
    link: Link | None = None
    refusal: Problem | None = None
    may_go_on: bool = True
    """Whether what follows can be read if this cannot."""


def entries_of(file: IO[bytes]) -> Iterator[Entry]:
    """The entries of an archive from its front, without folders.

    Raises:
        InputError: It is no archive, or one that is not read.
    """
    file, head = _with_head(file)
    opener = next((opener for magic, opener in _OPENERS if head.startswith(magic)), None)
    if opener is not None:
        counted = _Counted(file)
        with opener(cast("IO[bytes]", counted)) as plain:
            yield from _tar_entries(_Forward(plain, can_seek=False, packed=counted))
    elif head.startswith(_ZIP_MAGIC) or _is_zip_behind_others(file, head):
        yield from _zip_entries(file)
    elif unread := next((name for magic, name in _UNREAD.items() if head.startswith(magic)), None):
        raise InputError("unsupported", f"{unread} is not read: unpack it, or pack it anew as a tar or zip archive")
    else:
        yield from _tar_entries(_Forward(file, can_seek=file.seekable()))


def _is_zip_behind_others(file: IO[bytes], head: bytes) -> bool:
    """Whether a file is a zip with other bytes before it, as self-extracting ones have; a tar may end in a zip."""
    if not file.seekable() or _begins_tar(head):
        return False
    is_zip = zipfile.is_zipfile(file)
    file.seek(0)
    return is_zip


def _begins_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _tar_entries(file: _Forward) -> Iterator[Entry]:
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
            refusal, link = None, None
            if entry.islnk():
                link = Link(entry.name, posixpath.normpath(entry.linkname), entry.linkname)
            elif entry.issym():
                link = Link(entry.name, _target_of(entry.name, entry.linkname), entry.linkname)
            elif not entry.isreg():
                refusal = Problem("not_a_file", f"a {_TAR_TYPES.get(entry.type, 'special entry')}, not a file")
            read = partial(_read_tar, tar, entry, file)
            yield Entry(entry.name, entry.size, read, link, refusal, may_go_on=False)
        file.check_end()


def _target_of(name: str, given: str) -> str | None:
    """The member that a symbolic link leads to; None where it leads out of the archive."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), given))
    return None if target.startswith(("/", "../")) or target in (".", "..") else target


def _zip_entries(file: IO[bytes]) -> Iterator[Entry]:
    if not file.seekable():
        message = "the index of a zip stands at its end, and this source only reads from the front: download it"
        raise InputError("unsupported", message)
    expansion = _Expansion(_check_end_of_zip(file))
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            name = _zip_name(entry)
            if name.endswith("/"):
                continue
            read = partial(_read_zip, archive, entry, expansion)
            mode = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
            if entry.flag_bits & _ENCRYPTED:
                refusal = Problem("unsupported", "the member is encrypted: unpack the archive with its password")
                yield Entry(name, entry.file_size, read, refusal=refusal)
            elif stat.S_ISLNK(mode):
                yield Entry(name, 0, read, _zip_link(name, entry, read))
            else:
                refusal = None
                if mode and not stat.S_ISREG(mode):
                    refusal = Problem("not_a_file", "a special entry, not a file")
                yield Entry(name, entry.file_size, read, refusal=refusal)


def _zip_link(name: str, entry: zipfile.ZipInfo, read: Callable[[], bytes]) -> Link:
    """A symbolic link: its content is the name that it leads to."""
    given = ""
    if entry.file_size <= _MAX_LINK_BYTES:
        with contextlib.suppress(*READ_FAILURES):  # a link that cannot be read leads nowhere
            given = read().decode("utf-8", "surrogateescape")
    return Link(name, _target_of(name, given) if given else None, given)


def _check_end_of_zip(file: IO[bytes]) -> int:
    """The size of a zip in bytes.

    Raises:
        InputError: It is one part of a zip that was split into several files, which zipfile takes for a damaged one; or
            its index is longer than is read.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _MAX_ZIP_END_BYTES))
    end = file.read()
    file.seek(0)
    at = end.rfind(_ZIP_END)
    number = int.from_bytes(end[at + 4 : at + 6], "little") if at >= 0 else 0
    if number not in (0, 0xFFFF):
        raise InputError("unsupported", f"the last of {number + 1} parts of a split zip: join them first (zip -s 0)")
    if at < 0 and end and _begins_split(file):
        raise InputError("unsupported", "the first part of a split zip: join the parts first (zip -s 0)")
    index_bytes = int.from_bytes(end[at + 12 : at + 16], "little") if at >= 0 else 0
    record = end[at - _ZIP64_END_BYTES : at] if at >= _ZIP64_END_BYTES else b""
    if record[:4] == _ZIP64_END and record[56:60] == _ZIP64_LOCATOR:
        long_bytes = int.from_bytes(record[40:48], "little")  # zipfile takes it, whatever the other says
        index_bytes = long_bytes if index_bytes == 0xFFFFFFFF else max(index_bytes, long_bytes)
    if index_bytes > MAX_INDEX_BYTES:
        message = f"the index of the zip has {index_bytes} bytes, more than the {MAX_INDEX_BYTES} that are read"
        raise InputError("too_large", f"{message}: split it, or pack it as a tar")
    return size


MAX_INDEX_BYTES = 512 << 20
"""Of a zip: about five million members, which take 3 GB of memory."""
_ZIP64_END = b"PK\x06\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_END_BYTES = 56 + 20
"""The record of a large zip, and what says where it is, stand in front of the usual one (APPNOTE.TXT 4.3.14)."""


def _begins_split(file: IO[bytes]) -> bool:
    head = file.read(4)
    file.seek(0)
    return head == _ZIP_SPLIT


class _Counted:
    """A file that counts what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data

    def seekable(self) -> bool:
        return False


class _Expansion:
    """How much comes out of compressed bytes: a bomb of megabytes would take hours."""

    def __init__(self, packed_bytes: int) -> None:
        self.packed_bytes = packed_bytes
        self._count = 0

    def add(self, count: int) -> None:
        """Count what came out.

        Raises:
            InputError: It is more than pictures can be compressed by.
        """
        self._count += count
        if self._count > FREE_EXPANDED_BYTES + MAX_EXPANSION * self.packed_bytes:
            raise InputError(
                "too_large",
                f"{self.packed_bytes} bytes of the archive expand to more than {self._count}, and over "
                f"{FREE_EXPANDED_BYTES >> 30} GB only {MAX_EXPANSION} times as much is read: unpack it",
            )


MAX_EXPANSION, FREE_EXPANDED_BYTES = 250, 1 << 30
"""How many times its own bytes an archive may expand to, beside the second. Flat drawings in BMP come to about 100."""


class _Forward:
    """What tarfile reads through: from front to back, and never more for one header than a header may have.

    tarfile takes the end of the file, and a damaged header, for the end of the archive, and would allocate
    whatever size a header names.
    """

    def __init__(self, file: IO[bytes], *, can_seek: bool, packed: _Counted | None = None) -> None:
        self._file = file
        self._packed = packed
        self._expansion = _Expansion(0)
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
            self._move(skipped)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._allowed:
            raise tarfile.ReadError(f"a header asks for {size} bytes")
        data = self._file.read(size)
        self._move(len(data))
        self._allowed -= len(data)
        is_first_block = self._may_end and size == tarfile.BLOCKSIZE
        if len(data) < size and (data or not is_first_block):
            raise EOFError
        if is_first_block:
            self._may_end = False
            self._last_block = data
        return data

    def _move(self, count: int) -> None:
        self._position += count
        if self._packed is not None:
            self._expansion.packed_bytes = self._packed.count
            self._expansion.add(count)

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


def _read_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, expansion: _Expansion) -> bytes:
    """At most the size that its header says: zipfile reads no further and then finds the checksum wrong."""
    # For these, zipfile expands whatever it has read: 4 KiB of bzip2 can become 90 MB, 64 KiB 1.4 GB.
    is_bounded = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    try:
        opened = archive.open(entry)
    except NotImplementedError as error:
        method = f"{entry.compress_type} ({_METHODS.get(entry.compress_type, 'unknown')})"
        message = f"the member is compressed by method {method}, which is not read: pack the archive anew with Deflate"
        raise InputError("unsupported", message) from error
    with opened as file:
        pieces = []
        for piece in iter(partial(file.read, _CHUNK_BYTES if is_bounded else 4096), b""):
            expansion.add(len(piece))
            pieces.append(piece)
        return b"".join(pieces)


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """The name with slashes. Many programs write UTF-8 without the flag that says so: zipfile reads code page 437."""
    name = entry.filename
    if not entry.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    # Only where a backslash cannot be part of a name: .NET before 4.6.1 and others write them in place of slashes.
    return name if entry.create_system in _POSIX_SYSTEMS else name.replace("\\", "/")


_TAR_TYPES = {
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "named pipe",
}
_UNIX, _DARWIN, _ENCRYPTED, _UTF8 = 3, 19, 0x1, 0x800
_POSIX_SYSTEMS = (_UNIX, _DARWIN)
_MAX_LINK_BYTES = 4096
_ZIP_SPLIT, _ZIP_END = b"PK\x07\x08", b"PK\x05\x06"
_ZIP_MAGIC = (b"PK\x03\x04", _ZIP_END, _ZIP_SPLIT)
_MAX_ZIP_END_BYTES = _ZIP64_END_BYTES + 22 + 0xFFFF
"""The records at the end of a zip, with the longest comment."""
_METHODS = {
    1: "Shrink", 2: "Reduce", 3: "Reduce", 4: "Reduce", 5: "Reduce", 6: "Implode", 9: "Deflate64",
    10: "PKWARE Implode", 93: "Zstandard", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd",
}  # fmt: skip
"""Of compression in a zip, by APPNOTE.TXT 4.4.5: those that zipfile may not read."""


@contextlib.contextmanager
def opened_archive(path: str, *, allow_private: bool = False) -> Iterator[IO[bytes]]:
    if is_remote(path):
        with open_remote(path, allow_private=allow_private) as file:
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


_HEAD_BYTES = tarfile.BLOCKSIZE
_OPENERS: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file))),
    (b"BZh", lambda file: cast("IO[bytes]", bz2.BZ2File(file))),
    (b"\xfd7zXZ\0", lambda file: cast("IO[bytes]", lzma.LZMAFile(file))),  # noqa: SIM115 - closed by the caller
    (b"\x28\xb5\x2f\xfd", _open_zstd),
)
"""How compressed tars begin."""
_UNREAD = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"MSCF": "a cabinet archive",
    b"xar!": "a xar archive",
    b"!<arch>": "an ar archive",
    b"0707": "a cpio archive",
    b"LZIP": "an lzip file",
    b"\x04\x22\x4d\x18": "an LZ4 file",
    b"\x1f\x9d": "a file of compress (.Z)",
}
"""How other archives and compressed files begin."""

READ_FAILURES = (
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


def problem_of(error: Exception, what: str) -> Problem:
    """One of the `READ_FAILURES`, put into a stable type and one sentence."""
    if isinstance(error, OSError) and error.errno is not None:
        return Problem("read_error", f"the {what} cannot be read: {error.strerror}")
    if isinstance(error, EOFError):
        return Problem("truncated", f"the {what} is cut short")
    if isinstance(error, NotImplementedError):
        return Problem("unsupported", f"the {what} is not read: {error}")
    return Problem("damaged", f"the {what} is damaged: {' '.join(str(error).split()) or type(error).__name__}")
