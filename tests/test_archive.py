"""Archives -> the bytes of their pictures; hostile ones harm nothing, and each member is answered for."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tarfile
import threading
import tracemalloc
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import polars as pl
import psutil
import pytest

from motivnet_cli.config import InputConfig
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.decode import decode, decode_bytes
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.remote import retries
from motivnet_cli.remote.files import RETRIES, read_bytes
from motivnet_cli.remote.urls import is_remote
from tests.pictures import quadrants
from tests.server import Answer, FileServer

BIG = 1 << 30


def tar_of(*members, mode="w", tar_format=tarfile.PAX_FORMAT):
    """A tar as bytes; a member is (name, content) or a TarInfo without one."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=tar_format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                tar.addfile(entry(member[0], len(member[1])), io.BytesIO(member[1]))
    return file.getvalue()


def entry(name, size=0, **fields):
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def zip_of(*members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def read(content, **options):
    """The members and the report of an archive given as bytes."""
    archive = Archive(io.BytesIO(content), **options)
    return list(archive), archive.report


def outcomes(members):
    return [(member.name, member.problem.error_type if member.problem else member.data) for member in members]


PACKERS = {
    "tar": tar_of,
    "tar.gz": partial(tar_of, mode="w:gz"),
    "tar.bz2": partial(tar_of, mode="w:bz2"),
    "tar.xz": partial(tar_of, mode="w:xz"),
    "gnu tar": partial(tar_of, tar_format=tarfile.GNU_FORMAT),
    "old tar": partial(tar_of, tar_format=tarfile.USTAR_FORMAT),
    "zip": zip_of,
    "stored zip": partial(zip_of, compression=zipfile.ZIP_STORED),
    "bzip2 zip": partial(zip_of, compression=zipfile.ZIP_BZIP2),
    "lzma zip": partial(zip_of, compression=zipfile.ZIP_LZMA),
}
MEMBERS = (("b.jpg", b"first"), ("a/c.PNG", b""), ("a/a.webp", bytes(70_000)), ("n\xe4me 1.jpg", b"last" * 300))


class Pipe(io.RawIOBase):
    """Bytes that can only be read from the front."""

    def __init__(self, content):
        self._file = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._file.readinto(buffer)


@pytest.mark.parametrize("packer", PACKERS)
def test_members_come_in_their_order(packer):
    """Whatever the format, told by the content; from a file and from a pipe."""
    content = PACKERS[packer](*MEMBERS)
    members, report = read(content)

    assert outcomes(members) == list(MEMBERS)
    assert [member.number for member in members] == [0, 1, 2, 3]
    assert (report.num_members, report.problem, report.skipped) == (4, None, {})
    if "tar" in packer:
        archive = Archive(io.BufferedReader(Pipe(content)))
        assert (list(archive), archive.report) == (members, report)


@pytest.mark.parametrize("packer", ["tar", "tar.gz", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_skip_leaves_exactly_the_rest(packer):
    """Failed members count as handed out, passed over ones do not, and the report is that of the whole."""
    names = ["a.jpg", "a.txt", "b.mp4", "a.jpg", "big.jpg", ".h.jpg", "z.jpg"]
    content = PACKERS[packer](*((name, b"x" * (200 if name == "big.jpg" else 10)) for name in names))
    whole, report = read(content, max_member_bytes=100)

    assert len(whole) == 5
    for skip in range(7):
        assert read(content, max_member_bytes=100, skip=skip) == (whole[skip:], report)


@pytest.mark.parametrize("packer", ["tar", "zip"])
def test_what_is_no_picture_is_counted_or_listed(packer):
    """Companions of WebDataset by their ending, hidden ones as in a folder; videos and archives fail."""
    names = ["1.jpg", "1.json", "1.cls", "LICENSE", ".git/x.jpg", "__MACOSX/._1.jpg", "clip.mp4", "in.tar", "./2.jpg"]
    members, report = read(PACKERS[packer](*((name, b"x") for name in names)))

    assert outcomes(members) == [
        ("1.jpg", b"x"),
        ("clip.mp4", "unsupported"),
        ("in.tar", "unsupported"),
        ("./2.jpg", b"x"),
    ]
    assert report.skipped == {".json": 1, ".cls": 1, "no ending": 1, "hidden": 2}


def test_names_are_data(tmp_path, monkeypatch):
    """Members that point out of the archive are read as any other, and no file appears anywhere."""
    outside = tmp_path / "outside"
    (outside / "run").mkdir(parents=True)
    monkeypatch.chdir(outside / "run")
    names = ["../../etc/x.jpg", f"{outside}/y.jpg", "../z.jpg", "a/../../w.jpg", "c:\\v.jpg"]
    for packer in ("tar", "tar.gz", "zip"):
        (tmp_path / "a").write_bytes(PACKERS[packer](*((name, b"x") for name in names)))
        assert outcomes(Archive(str(tmp_path / "a"))) == [(name, b"x") for name in names]

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a", "outside", "outside/run"]


def test_devices_and_pipes_are_listed():
    """None is opened."""
    types = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    entries = [entry(f"{number}.jpg", type=each) for number, each in enumerate(types)]
    members, report = read(tar_of(*entries, entry("d.jpg", type=tarfile.DIRTYPE), ("last.jpg", b"x")))

    assert outcomes(members) == [*((f"{number}.jpg", "not_a_file") for number in range(3)), ("last.jpg", b"x")]
    assert report.problem is None


def zip_link(name, target):
    link = zipfile.ZipInfo(name)
    link.create_system, link.external_attr = 3, 0o120777 << 16
    return link, target


def tar_link(name, target):
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


PACKED_LINKS = [(tar_of, tar_link), (PACKERS["tar.gz"], tar_link), (zip_of, zip_link)]


@pytest.mark.parametrize(("pack", "link"), PACKED_LINKS)
@pytest.mark.parametrize("skip", range(7))
def test_links_give_their_member(pack, link, skip):
    """Before or behind it, over several links, to a member that is no picture by its name: always its content."""
    content = pack(
        link("a/early.jpg", "../b/x.jpg"),
        ("b/x.jpg", b"x"),
        link("chain.png", "./a/early.jpg"),
        ("b/.key", b"k"),
        link("late.jpg", "b/.key"),
        link("a/film.mp4", "../b/x.jpg"),
        link("latest", "b"),
        ("b/y.jpg", b"y"),
    )
    members, report = read(content, skip=skip)

    assert outcomes(members) == [
        ("b/x.jpg", b"x"), ("a/film.mp4", "unsupported"), ("b/y.jpg", b"y"), ("a/early.jpg", b"x"), ("chain.png", b"x"),
        ("late.jpg", b"k"),
    ][skip:]  # fmt: skip
    assert [member.number for member in members] == list(range(6))[skip:]
    assert report.num_members == 6
    assert report.skipped == {"hidden": 1, "no ending": 1}
    assert report.problem is None


def test_hard_links_give_their_member():
    """As a tar of a library without doubles has them; their names count from the archive's root."""
    hard = entry("all/a.jpg", type=tarfile.LNKTYPE, linkname="./album/a.jpg")
    members, _ = read(tar_of(("./album/a.jpg", b"a"), hard))

    assert outcomes(members) == [("./album/a.jpg", b"a"), ("all/a.jpg", b"a")]


@pytest.mark.parametrize(("pack", "link"), PACKED_LINKS)
def test_links_that_lead_to_no_member(pack, link, tmp_path):
    """Out of the archive, nowhere, to a folder, in a circle, to a name that is not of one member: no data, a reason."""
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    members, report = read(
        pack(
            link("1.jpg", str(tmp_path / "secret.jpg")),
            link("2.jpg", "../../etc/passwd"),
            link("3.jpg", "none.jpg"),
            link("4.jpg", "folder"),
            link("5.jpg", "6.jpg"),
            link("6.jpg", "./5.jpg"),
            link("7.jpg", "7.jpg"),
            ("folder/x.jpg", b"x"),
        )
    )

    assert outcomes(members) == [
        ("folder/x.jpg", b"x"), ("1.jpg", "broken_link"), ("2.jpg", "broken_link"), ("3.jpg", "broken_link"),
        ("4.jpg", "broken_link"), ("5.jpg", "link_loop"), ("6.jpg", "link_loop"), ("7.jpg", "link_loop"),
    ]  # fmt: skip
    assert "'none.jpg', which is no file in the archive" in members[3].problem.message
    assert report.problem is None


def test_links_to_a_repeated_name_are_not_guessed():
    """Which of the two was meant is not known."""
    members, _ = read(tar_of(("a.jpg", b"1"), ("a.jpg", b"2"), tar_link("b.jpg", "a.jpg")))

    assert outcomes(members) == [("a.jpg", b"1"), ("a.jpg#2", b"2"), ("b.jpg", "broken_link")]


def test_links_in_what_is_left_of_an_archive():
    """Those that stand before the break have what stands before it; each is answered for."""
    content = tar_of(
        tar_link("1.jpg", "a.jpg"), ("a.jpg", bytes(700)), ("b.jpg", bytes(5000)), tar_link("2.jpg", "b.jpg")
    )
    members, report = read(content[:4000])

    assert outcomes(members) == [("a.jpg", bytes(700)), ("b.jpg", "truncated"), ("1.jpg", bytes(700))]
    assert report.problem.error_type == "truncated"


def test_links_from_a_source_that_is_read_once():
    members, _ = list(Archive(Pipe(tar_of(("a.jpg", b"a"), tar_link("b.jpg", "a.jpg"))))), None

    assert outcomes(members) == [("a.jpg", b"a"), ("b.jpg", "read_error")]


def test_backslashes_are_slashes_where_windows_made_the_zip():
    """Elsewhere they are part of the name."""
    names = ["album\\one.jpg", "album\\", "__MACOSX\\album\\._one.jpg", "album\\.thumb.jpg", "album/one.jpg"]
    infos = [zipfile.ZipInfo(name) for name in names]
    for info in infos:
        info.create_system = 0
    members, report = read(zip_of(*((info, info.filename.encode()) for info in infos)))
    unix, _ = read(zip_of(("a\\b.jpg", b"x")))

    assert outcomes(members) == [("album/one.jpg", b"album\\one.jpg"), ("album/one.jpg#2", b"album/one.jpg")]
    assert report.skipped == {"hidden": 2}
    assert outcomes(unix) == [("a\\b.jpg", b"x")]


@pytest.mark.parametrize("prefix", [b"#!/bin/sh\nexit 0\n" * 20, b"MZ" + bytes(5000), b"PK00"])
def test_zip_behind_other_bytes(prefix):
    """Self-extracting archives; a tar that ends in a zip stays a tar."""
    packed = zip_of(*MEMBERS)
    stored = tar_of(("first.jpg", b"f"), ("z.zip", packed))

    assert outcomes(read(prefix + packed)[0]) == [(name, content) for name, content in MEMBERS]
    assert outcomes(read(stored)[0])[0] == ("first.jpg", b"f")


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (98, "PPMd"), (77, "unknown")])
def test_unread_compression_is_named(method, name):
    """The others of the archive are read."""
    packed = bytearray(zip_of(("a.jpg", b"a"), ("b.jpg", b"b"), compression=zipfile.ZIP_STORED))
    for start, at in ((packed.index(b"PK\3\4"), 8), (packed.index(b"PK\1\2"), 10)):
        packed[start + at : start + at + 2] = method.to_bytes(2, "little")
    members, _ = read(bytes(packed))

    assert outcomes(members) == [("a.jpg", "unsupported"), ("b.jpg", b"b")]
    assert f"method {method} ({name})" in members[0].problem.message


def test_parts_of_a_split_zip_say_so():
    """The last one holds the index, the first one begins with a mark of its own."""
    last = bytearray(zip_of(("a.jpg", b"a")))
    last[last.index(b"PK\5\6") + 4] = 2
    for part in (bytes(last), b"PK\7\x08PK\3\4" + bytes(900)):
        members, report = read(part)

        assert not members
        assert report.problem.error_type == "unsupported"
        assert "join" in report.problem.message


def test_zip64():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"a")

    assert outcomes(read(file.getvalue())[0]) == [("a.jpg", b"a")]


@pytest.mark.parametrize(
    "head", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"MSCF", b"!<arch>\n", b"070701", b"\x1f\x9d\x90"]
)
@pytest.mark.parametrize("seekable", [True, False])
def test_other_archives_say_what_to_do(head, seekable):
    content = head + bytes(2000)
    archive = Archive(io.BytesIO(content) if seekable else Pipe(content))

    assert not list(archive)
    assert archive.report.problem.error_type == "unsupported"
    assert "pack it anew as a tar or zip archive" in archive.report.problem.message


@pytest.mark.parametrize("packer", ["tar", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_repeated_names_are_told_apart(packer):
    """Each is answered for, by a name that no other has."""
    names = ["a.jpg", "a.jpg", "a.jpg#2.jpg", "a.jpg", "b.jpg"]
    members, _ = read(PACKERS[packer](*((name, str(at).encode()) for at, name in enumerate(names))))

    assert [member.name for member in members] == ["a.jpg", "a.jpg#2", "a.jpg#2.jpg", "a.jpg#3", "b.jpg"]
    assert [member.data for member in members] == [b"0", b"1", b"2", b"3", b"4"]


def test_names_that_are_not_utf8():
    """Shown with escapes in a tar; a zip's names are UTF-8 where they can be."""
    latin = tar_of((os.fsdecode(b"\xff.jpg"), b"x"), tar_format=tarfile.GNU_FORMAT)
    unflagged = zip_of(("xx.jpg", b"x")).replace(b"xx.jpg", "ä.jpg".encode())

    assert outcomes(read(latin)[0]) == [("\\xff.jpg", b"x")]
    assert outcomes(read(unflagged)[0]) == [("ä.jpg", b"x")]


@contextmanager
def peak_within(num_bytes):
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < num_bytes


@pytest.mark.thorough
@pytest.mark.parametrize("packer", ["tar.gz", "tar.bz2", "tar.xz", "zip", "bzip2 zip", "lzma zip"])
def test_bomb_is_refused_unread(packer):
    """Its header says that it is larger than what may be read; the member behind it comes."""
    content = PACKERS[packer](("bomb.jpg", bytes(50 << 20)), ("y.jpg", b"y"))
    with peak_within(10 << 20):
        members, report = read(content, max_member_bytes=1 << 20)

    assert outcomes(members) == [("bomb.jpg", "too_large"), ("y.jpg", b"y")]
    assert report.problem is None


@pytest.mark.thorough
@pytest.mark.parametrize("packer", ["zip", "bzip2 zip", "lzma zip"])
def test_bomb_that_lies_about_its_size(packer):
    """Reading stops at the size that the header says, and the member is damaged."""
    content = bytearray(PACKERS[packer](("bomb.jpg", bytes(50 << 20)), ("y.jpg", b"y")))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + place, 1000)
    with peak_within((20 if packer == "zip" else 130) << 20):  # zipfile expands 4 KiB at a time
        members, report = read(bytes(content), max_member_bytes=1 << 20)

    assert outcomes(members) == [("bomb.jpg", "damaged"), ("y.jpg", b"y")]
    assert report.problem is None


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_header_without_measure_ends_the_archive(kind):
    """Names and attributes of gigabytes would be read whole by tarfile."""
    huge = entry("huge", 100 << 20, type=kind).tobuf()
    content = gzip.compress(tar_of(("a.jpg", b"x"))[:1024] + huge + bytes(100 << 20) + bytes(1024))
    with peak_within(10 << 20):
        members, report = read(content)

    assert outcomes(members) == [("a.jpg", b"x")]
    assert report.problem.error_type == "damaged"


def test_header_with_a_negative_size_ends_the_archive():
    """tarfile itself once went round in circles on it (CVE-2025-8194)."""
    for size in (-512, -1024, -5, -1536):
        header = bytearray(entry("b.jpg").tobuf(tarfile.GNU_FORMAT))
        header[124:136] = (256**12 + size).to_bytes(13, "big")[1:]
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        members, report = read(tar_of(("a.jpg", b"x"))[:1024] + bytes(header) + bytes(2048))

        assert outcomes(members) == [("a.jpg", b"x")]
        assert report.problem.error_type == "damaged"


def test_sparse_members():
    """Holes are zeros, and count as bytes: a terabyte of them is too large."""
    for size, outcome in ((1002, b"abc" + bytes(997) + b"de"), (1 << 40, "too_large")):
        headers = {"GNU.sparse.map": "0,3,1000,2", "GNU.sparse.size": str(size), "GNU.sparse.name": "a.jpg"}
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.addfile(entry("a.jpg", 5, pax_headers=headers), io.BytesIO(b"abcde"))
        members, _ = read(file.getvalue())

        assert outcomes(members) == [("a.jpg", outcome)]


def test_chain_of_long_names_ends_the_archive():
    """tarfile calls itself for each."""
    link = entry("x", 1, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT) + b"n" + bytes(511)
    members, report = read(link * 3000 + tar_of(("a.jpg", b"x")))

    assert members == []
    assert report.problem


@pytest.mark.parametrize("packer", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_tar_cut_anywhere_keeps_what_came_before(packer):
    """Also where a member ends, which tarfile takes for the end; the report says so, whatever was skipped."""
    chance = random.Random(5)
    whole = [(f"{number}.jpg", chance.randbytes(1200)) for number in range(8)]
    content = PACKERS[packer](*whole)
    end = 8 * 2048 if packer == "tar" else len(content) - 10
    cuts = {*range(2048, end, 512), *(chance.randrange(100, end) for _ in range(60))}
    for cut in cuts:
        members, report = read(content[:cut])
        good = [(member.name, member.data) for member in members if not member.problem]

        assert good == whole[: len(good)]
        assert [member.problem.error_type for member in members[len(good) :]] in ([], ["truncated"])
        assert (report.problem.error_type, report.num_members) == ("truncated", len(members))
        if packer == "tar":
            assert len(good) >= (cut - 512) // 2048
        for skip in (1, len(members)):
            assert read(content[:cut], skip=skip) == (members[skip:], report)


def test_tar_without_its_end_mark_is_cut_short():
    """A program that was killed leaves such shards, with whole members only."""
    members, report = read(tar_of(("a.jpg", b"x"))[:1024])

    assert outcomes(members) == [("a.jpg", b"x")]
    assert report.problem.error_type == "truncated"


def test_damaged_header_ends_the_tar():
    """tarfile takes it for the end; the report says where it is."""
    content = bytearray(tar_of(("a.jpg", b"x"), ("b.jpg", b"x"), ("c.jpg", b"x")))
    content[1024 + 5] ^= 1
    members, report = read(bytes(content))

    assert outcomes(members) == [("a.jpg", b"x")]
    assert report.problem.error_type == "damaged"
    assert "1024" in report.problem.message


def test_joined_tars_are_not_dropped_in_silence():
    """What stands behind the end mark of the first is not read, and the report says so."""
    members, report = read(tar_of(("a.jpg", b"x")) + tar_of(("b.jpg", b"x")))

    assert outcomes(members) == [("a.jpg", b"x")]
    assert report.problem.error_type == "damaged"
    assert "one by one" in report.problem.message


def test_damage_in_a_compressed_tar():
    """One flipped bit is noticed, at the latest by the checksum at the end."""
    content = bytearray(tar_of(*((f"{n}.jpg", random.Random(n).randbytes(5000)) for n in range(5)), mode="w:gz"))
    content[len(content) // 2] ^= 4
    _, report = read(bytes(content))

    assert report.problem.error_type in ("damaged", "truncated")


def test_damaged_member_of_a_zip_leaves_the_others():
    """A wrong checksum, a foreign kind of compression, encryption, and a header that is gone."""
    content = bytearray(zip_of(*((f"{number}.jpg", bytes(9)) for number in range(6)), compression=zipfile.ZIP_STORED))
    central = [at for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]
    local = [at for at in range(len(content)) if content[at : at + 4] == b"PK\x03\x04"]
    content[local[1] + 35 + 2] ^= 1
    struct.pack_into("<H", content, central[2] + 10, 99)
    content[central[3] + 8] |= 1
    content[local[4]] = 0
    members, report = read(bytes(content))

    assert outcomes(members) == [
        ("0.jpg", bytes(9)),
        ("1.jpg", "damaged"),
        ("2.jpg", "unsupported"),
        ("3.jpg", "unsupported"),
        ("4.jpg", "damaged"),
        ("5.jpg", bytes(9)),
    ]
    assert "encrypted" in members[3].problem.message
    assert report.problem is None


def test_zip_without_its_index():
    """Cut short, it says nothing of what it holds."""
    members, report = read(zip_of(("a.jpg", b"x"))[:-30])

    assert members == []
    assert report.problem.error_type == "damaged"


@pytest.mark.parametrize(
    ("content", "error_type"),
    [
        (b"", "empty_file"),
        (b"\xff\xd8\xff\xe0" + bytes(2000), "not_an_archive"),
        (b"x" * 1000, "not_an_archive"),
        (b"x" * 100, "truncated"),
        (b"Rar!\x1a\x07\x01\0" + bytes(600), "unsupported"),
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(600), "unsupported"),
        (gzip.compress(b"no tar" * 100, mtime=0), "not_an_archive"),
        (b"\x1f\x8b" + bytes(600), "damaged"),
    ],
)
def test_what_is_no_archive_says_what_it_is(tmp_path, content, error_type):
    """As a file and as a stream; nothing is raised."""
    (tmp_path / "x.tar").write_bytes(content)
    archive = Archive(str(tmp_path / "x.tar"))

    assert list(archive) == []
    assert archive.report.problem.error_type == error_type


def test_paths_that_lead_to_no_archive(tmp_path, monkeypatch):
    """Missing, a folder, a pipe that nobody writes to."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.tar")
    for path, error_type in (("none.tar", "not_found"), (".", "not_a_file"), ("pipe.tar", "not_a_file")):
        archive = Archive(path)

        assert list(archive) == []
        assert archive.report.problem.error_type == error_type


def test_zip_from_a_pipe_is_refused():
    """Its index stands at the end."""
    archive = Archive(io.BufferedReader(Pipe(zip_of(("a.jpg", b"x")))))

    assert list(archive) == []
    assert archive.report.problem.error_type == "unsupported"


@pytest.mark.thorough
@pytest.mark.parametrize("packer", ["tar", "tar.gz", "zip"])
def test_thirty_thousand_members_in_bounded_memory(tmp_path, packer):
    """Each is answered for; a tar costs only what tells names apart, a zip its index."""
    num_members = 30_000
    path = tmp_path / "many"
    if packer == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(num_members):
                archive.writestr(f"{number:06}.jpg", b"x")
    else:
        header = bytearray(entry("000000.jpg", 1).tobuf(tarfile.USTAR_FORMAT))
        with gzip.open(path, "wb", 1) if packer == "tar.gz" else path.open("wb") as file:
            for number in range(num_members):
                header[:6] = b"%06d" % number
                header[148:156] = b" " * 8
                header[148:156] = b"%06o\0 " % sum(header)
                file.write(bytes(header) + b"x" + bytes(511))
            file.write(bytes(1024))
    archive = Archive(str(path))
    process = psutil.Process()
    before = most = process.memory_info().rss
    count = 0
    for member in archive:
        count += member.data == b"x"
        if count % 1000 == 0:
            most = max(most, process.memory_info().rss)

    assert count == archive.report.num_members == num_members
    assert archive.report.problem is None
    assert most - before < (45 if packer == "zip" else 12) << 20


@pytest.mark.thorough
def test_no_damage_escapes_as_an_exception():
    """Mutated archives of all formats give members and a report."""
    chance = random.Random(20_260_101)
    wholes = [packer(*MEMBERS, (".h", b""), ("x.txt", bytes(2000))) for packer in PACKERS.values()]
    num_problems = 0
    for _ in range(1500):
        content = bytearray(chance.choice(wholes))
        for _ in range(chance.choice((1, 3, 20))):
            content[chance.randrange(len(content))] = chance.choice((0, 255, chance.randrange(256)))
        if chance.random() < 0.2:
            content = content[: chance.randrange(len(content))]
        members, report = read(bytes(content), max_member_bytes=1 << 20)
        assert [member.number for member in members] == list(range(report.num_members))
        num_problems += bool(report.problem)

    assert num_problems > 300


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(retries, "BACKOFF_SECONDS", 0.001)


def test_tar_over_http_goes_on_after_a_break(no_waiting):
    """A shard is read as it comes; a lost connection costs a new request."""
    content = tar_of(*((f"{number}.jpg", random.Random(number).randbytes(90_000)) for number in range(10)))
    answers = [Answer(content, drop_after=at, headers={"Accept-Ranges": "bytes"}) for at in (400_000, 300_000)]
    with FileServer(*answers, Answer(content)) as server:
        over_http = Archive(server.url)
        assert list(over_http) == list(Archive(io.BytesIO(content)))
        assert over_http.report.problem is None


def test_tar_whose_server_dies_keeps_what_came(no_waiting):
    """The report says why the rest is missing."""
    content = tar_of(*((f"{number}.jpg", random.Random(number).randbytes(90_000)) for number in range(10)))
    with FileServer(Answer(content, drop_after=500_000), Answer(b"", 500)) as server:
        archive = Archive(server.url)
        members = list(archive)

    assert 3 <= sum(not member.problem for member in members) <= 5
    assert archive.report.problem.error_type == "unreachable"
    assert archive.report.num_members == len(members)
    assert len(server.requests) == 1 + RETRIES  # the read after the break uses up the first try


@contextmanager
def served(folder):
    """The folder's files over HTTP; ranges are not understood."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def pictures_of(inputs, stdin=b""):
    """Name and pixels of every picture, as a run would read it."""
    for item in Listing(inputs, stdin=io.BytesIO(stdin)):
        if item.kind == "archive":
            archive = Archive(item.path)
            yield from ((member.name, decode_bytes(member.data, max_pixels=BIG).rgb) for member in archive)
            assert archive.report.problem is None
        elif is_remote(item.path):
            yield item.input, decode_bytes(read_bytes(item.path, max_bytes=BIG), max_pixels=BIG).rgb
        else:
            yield item.input, decode(item.path, max_pixels=BIG).rgb


def test_same_pictures_by_whatever_way(tmp_path, monkeypatch):
    """Folder, pattern, lists, manifests, archives, shards and a web server: the same pixels in the same order."""
    folder = tmp_path / "photos"
    for number in range(40):
        path = folder / f"{number // 15}" / f"{number:03}.{('png', 'jpg', 'webp')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        quadrants(20 + number, 30).save(path)
    monkeypatch.chdir(tmp_path)
    expected = list(pictures_of(InputConfig(paths=("photos",))))
    names = [name for name, _ in expected]
    for mode in ("w", "w:gz"):
        with tarfile.open(f"all.tar{mode[1:].replace(':', '.')}", mode) as tar:
            for name in names:
                tar.add(folder / name, name)
    with zipfile.ZipFile("all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)
    for shard in range(4):
        with tarfile.open(f"shard-{shard:03}.tar", "w") as tar:
            for name in names[shard * 10 : shard * 10 + 10]:
                tar.add(folder / name, name)
                tar.addfile(entry(f"{name.rpartition('.')[0]}.json"))
    paths = [f"photos/{name}" for name in names]
    pl.DataFrame({"path": paths}).write_csv("all.csv")
    pl.DataFrame({"path": paths}).write_parquet("all.parquet")
    pl.DataFrame({"path": paths}).write_ndjson("all.jsonl")

    with served(tmp_path) as url:
        ways = {
            "pattern": pictures_of(InputConfig(paths=("photos/**/*.*",))),
            "lines": pictures_of(InputConfig(paths=("-",)), "\n".join(paths).encode()),
            "nul list": pictures_of(InputConfig(files0_from=("-",)), "".join(f"{path}\0" for path in paths).encode()),
            **{
                ending: pictures_of(InputConfig(manifests=(f"all.{ending}",))) for ending in ("csv", "parquet", "jsonl")
            },
            **{ending: pictures_of(InputConfig(paths=(f"all.{ending}",))) for ending in ("tar", "tar.gz", "zip")},
            "shards": pictures_of(InputConfig(paths=("shard-{000..003}.tar",))),
            "http": pictures_of(InputConfig(paths=tuple(f"{url}/{path}" for path in paths))),
            "tar over http": pictures_of(InputConfig(paths=(f"{url}/all.tar.gz",))),
        }
        for way, pictures in ways.items():
            found = list(pictures)
            assert [name.partition("photos/")[2] or name for name, _ in found] == names, way
            assert all(np.array_equal(rgb, right) for (_, rgb), (_, right) in zip(found, expected, strict=True)), way
