"""Archives: tars plain and compressed, and zips, with mutators of their headers and records, and bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

from tests.fuzz.mutate import MAX_BYTES, NUMBERS, field, other_byte, raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

MAX_MEMBER_BYTES = 1 << 20
_LZMA_BYTES = 64 << 20
"""Of the dictionary that LZMA asks for, and touches only as far as it is used."""
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
LINK = b"a.png"
_NAMES = ("a.png", "folder/b.png", "../../up.png", "/etc/root.png", "\xfc.png", "x" * 150 + ".png", "a.png", "c.txt")


# ---- sound files ----


def tars() -> Iterator[bytes]:
    for tar_format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
            for name in _NAMES if tar_format != tarfile.USTAR_FORMAT else _NAMES[:4]:
                info = tarfile.TarInfo(name)
                info.size = len(PICTURE)
                tar.addfile(info, io.BytesIO(PICTURE))
            for name, kind, target in (
                ("hard.png", tarfile.LNKTYPE, "a.png"),
                ("soft.png", tarfile.SYMTYPE, "folder/b.png"),
                ("out.png", tarfile.SYMTYPE, "../../etc/passwd"),
                ("pipe.png", tarfile.FIFOTYPE, ""),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                tar.addfile(info)
        yield file.getvalue()


def compressed_tars() -> Iterator[bytes]:
    tar = next(tars())
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        yield compress(tar)


def zips() -> Iterator[bytes]:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name in dict.fromkeys(_NAMES):
                archive.writestr(name, PICTURE)
            link = zipfile.ZipInfo("soft.png")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            archive.writestr(link, LINK)
        yield file.getvalue()


# ---- mutators ----

_FIELDS = ((0, 100), (100, 8), (124, 12), (136, 12), (148, 8), (156, 1), (157, 100), (257, 8), (345, 155))
"""Of a tar's header: name, mode, size, time, checksum, type, link, magic, prefix."""


def tar(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.15:
        return raw(rng, data)
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.choice([i for i, block in enumerate(blocks) if block[257:262] == b"ustar"] or [0])
        choice = rng.randrange(8)
        if choice == 0:
            del blocks[at : at + rng.choice((1, 1, 6))]
        elif choice == 1:
            blocks[at:at] = blocks[at : at + rng.choice((1, 6))] * rng.choice((1, 3, 500))
        else:
            blocks[at] = _tar_header(rng, blocks[at])
        blocks = blocks or [b""]
    return b"".join(blocks)[:MAX_BYTES]


def _tar_header(rng: Random, block: bytes) -> bytes:
    start, length = rng.choice(_FIELDS)
    numbers = (
        b"%o" % (rng.choice(NUMBERS) & ((1 << 33) - 1)),
        b"\x80" + rng.choice(NUMBERS).to_bytes(11, "big"),
        b"\xff" + rng.randbytes(11),
        b"-%o" % rng.choice((1, 512)),
    )
    if start == 156:
        value = rng.choice([b"0", b"1", b"2", b"3", b"5", b"6", b"g", b"x", b"L", b"K", b"S", b"V", b"\0", b"Z"])
    elif length in (8, 12):
        value = rng.choice(numbers)
    else:
        value = rng.choice(
            (b"../" * 30 + b"x.png", b"/tmp/x.png", b"a.png", b"", b"\0", b"\xff.png", rng.randbytes(length))
        )
    block = block[:start] + value[:length].ljust(length, b"\0") + block[start + length :]
    if start != 148:
        total = sum(block[:148]) + 8 * 32 + sum(block[156:])
        block = block[:148] + b"%06o\0 " % total + block[156:]
    return block


def compressed_tar(rng: Random, data: bytes) -> bytes:
    """The compressed bytes are damaged, or what they hold is; or it expands a thousandfold."""
    choice = rng.random()
    if choice < 0.5:
        return raw(rng, data)
    for magic, expand, compress in (
        (b"\x1f\x8b", gzip.decompress, gzip.compress),
        (b"BZh", bz2.decompress, bz2.compress),
        (b"\xfd7zXZ", lzma.decompress, lzma.compress),
    ):
        if data.startswith(magic):
            return compress(tar(rng, expand(data)))
    return raw(rng, data)


_ZIP_FIELDS = {
    b"PK\3\4": (("<H", 4), ("<H", 6), ("<H", 8), ("<I", 14), ("<I", 18), ("<I", 22), ("<H", 26), ("<H", 28)),
    b"PK\1\2": (("<H", 4), ("<H", 6), ("<H", 8), ("<H", 10), ("<I", 16), ("<I", 20), ("<I", 24), ("<H", 28), ("<H", 30),
                ("<H", 32), ("<I", 38), ("<I", 42)),
    b"PK\5\6": (("<H", 4), ("<H", 8), ("<H", 10), ("<I", 12), ("<I", 16), ("<H", 20)),
}  # fmt: skip
"""Of the records of a zip, by APPNOTE.TXT 4.3: what stands where."""


def zip_archive(rng: Random, data: bytes) -> bytes:
    choice = rng.random()
    if choice < 0.15:
        return raw(rng, data)
    if choice < 0.2:
        return _bomb(rng)
    mutant = data
    for _ in range(rng.choice((1, 1, 2, 3))):
        magic = rng.choice((b"PK\3\4", b"PK\1\2", b"PK\1\2", b"PK\5\6"))
        starts = [at for at in range(len(mutant) - 4) if mutant.startswith(magic, at)]
        if starts:
            layout, at = rng.choice(_ZIP_FIELDS[magic])
            mutant = field(rng, mutant, layout, rng.choice(starts) + at)
    return mutant


def _bomb(rng: Random) -> bytes:
    """A member that expands to much more than may be read, with a true size or a false one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))) as archive:
        archive.writestr("bomb.png", bytes(8 << 20))
        archive.writestr("after.png", PICTURE)
    data = file.getvalue()
    if rng.random() < 0.7:
        size = struct.pack("<I", rng.choice((0, 1, 1000, MAX_MEMBER_BYTES)))
        central = data.index(b"PK\1\2")
        data = data[:central] + data[central:].replace(struct.pack("<I", 8 << 20), size, 1)
    return data


def checksummed(rng: Random, data: bytes) -> bytes:
    """A byte somewhere is another one."""
    return other_byte(rng, data, 0, len(data))


# ---- judging ----


def judge(data: bytes, folder: Path) -> str:
    """What is read of an archive: members no larger than allowed, each with its content or a reason."""
    from motivnet_cli.inputs.archive import Archive

    archive = Archive(io.BytesIO(data), max_member_bytes=MAX_MEMBER_BYTES)
    numbers, num_failed = [], 0
    tracemalloc.start()
    try:
        for member in archive:
            numbers.append(member.number)
            num_failed += member.problem is not None
            assert len(member.data) <= MAX_MEMBER_BYTES, f"a member of {len(member.data)} bytes"
        assert numbers == list(range(len(numbers))), numbers
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MAX_MEMBER_BYTES + _LZMA_BYTES + 16 * len(data), f"{peak} bytes for an archive of {len(data)}"
    problem = archive.report.problem
    if problem and not numbers:
        return problem.error_type
    return "partial" if problem or num_failed else "ok"


def judge_checksums(data: bytes, folder: Path) -> str:
    """Of an archive in which one byte is wrong, a member that is read otherwise than it was makes the archive damaged.

    A compressed tar has its checksum at its end, behind the members.
    """
    from motivnet_cli.inputs.archive import Archive

    archive = Archive(io.BytesIO(data), max_member_bytes=MAX_MEMBER_BYTES)
    written = (PICTURE, LINK)  # what is a link stands in the index, of which there is no checksum
    others = [member.name for member in archive if not member.problem and member.data not in written]
    problem = archive.report.problem
    assert problem or not others, f"{others} were read otherwise than they were written"
    return "partial" if problem else "ok"


def sealed() -> Iterator[bytes]:
    """Archives of which every byte of a member is covered by a checksum."""
    yield from compressed_tars()
    yield from zips()
