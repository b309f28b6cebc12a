"""Files made to take hours, or all memory: each of these tests would not end, or not fit, without its limit."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from functools import partial
from pathlib import Path

import av
import pytest

from motivnet_cli.config import InputConfig, VideoConfig
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.inputs import archive_formats, picture_parts, table, video_container, video_worker
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.decode import decode_bytes
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.inputs.video_protocol import Alive
from motivnet_cli.remote import files, http
from tests import pictures
from tests.clips import make_clip, write_streams
from tests.fuzz.mutate import with_crc
from tests.fuzz.videos import Slots, request_for
from tests.pictures import quadrants
from tests.server import Answer, FileServer

saved = partial(pictures.saved, picture=quadrants(96, 64))


def refusal(content):
    with pytest.raises(InputError) as error:
        decode_bytes(content, max_pixels=10**7)
    return error.value.error_type


# ---- pictures ----


def with_scans(count):
    """A progressive JPEG whose last scan comes again and again."""
    content = saved("JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + b"\xff\xd9"


def test_jpeg_of_many_scans():
    """Each scan goes through all blocks of the picture, and an empty one takes a few bytes."""
    assert decode_bytes(saved("JPEG", progressive=True), max_pixels=10**7).rgb.shape == (64, 96, 3)
    assert refusal(with_scans(100_000)) == "unsupported"


def test_jpeg_whose_segments_lead_nowhere():
    """Behind a wrong length the next chain is searched for, which must not be tried from each of a million segments."""
    assert refusal(b"\xff\xd8\xff\xe0\xff\xff" + b"\xff\xe1\x00\x02" * 1_000_000 + b"\0") == "damaged"


def test_png_of_many_chunks(monkeypatch):
    """A chunk without data is 12 bytes."""
    monkeypatch.setattr(picture_parts, "_MAX_PARTS", 1000)
    content = saved("PNG")
    assert refusal(content[:33] + with_crc(b"tEXt", b"") * 1000 + content[33:]) == "damaged"


def test_png_with_data_in_many_wrong_places():
    """Behind a wrong length the next chunk with a right checksum is searched for, and each candidate is long."""
    content = saved("PNG")
    candidates = struct.pack(">I4s", 4_000_000, b"IDAT") * 500_000
    assert refusal(content[:33] + b"\0\0\0\1\0\0\0\0" + candidates + bytes(4_000_000)) == "damaged"


def test_gif_of_commas():
    """Each comma may begin a picture, whose blocks are followed to their end."""
    assert refusal(saved("GIF")[:10] + bytes(3) + b"\x21\xfe\xff" + b"\x2c" * 20_000_000) == "damaged"


def test_gif_of_tiny_blocks(monkeypatch):
    """A block of one byte is two."""
    monkeypatch.setattr(picture_parts, "_MAX_PARTS", 1000)
    content = saved("GIF")
    assert refusal(content[:781] + b"\x21\xfe" + b"\1\1" * 1000 + b"\0" + content[781:]) == "damaged"


def test_big_tiff_that_announces_an_endless_directory():
    """Only as many entries are looked at as the file has room for."""
    content = bytearray(saved("TIFF", big_tiff=True))
    (start,) = struct.unpack_from("<Q", content, 8)
    content[start : start + 8] = struct.pack("<Q", 1 << 60)
    assert refusal(bytes(content)) == "damaged"


def test_exif_that_names_the_same_bytes_again_and_again():
    """Tags that are not used are not brought into memory."""
    data = bytes(2_000_000)
    entries = b"".join(struct.pack("<HHII", 0xC000 + number, 1, len(data), 8) for number in range(1000))
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    exif += struct.pack("<H", 1001) + orientation + entries + bytes(4)
    content = saved("PNG")
    tracemalloc.start()
    frame = decode_bytes(content[:33] + with_crc(b"eXIf", exif) + content[33:], max_pixels=10**7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert frame.rgb.shape == (96, 64, 3), "it is turned"
    assert peak < 10 * len(data)


def test_png_with_a_bomb_in_a_text():
    """A text that expands a thousandfold is not expanded."""
    content = saved("PNG")
    bomb = with_crc(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    assert decode_bytes(content[:33] + bomb * 20 + content[33:], max_pixels=10**7).rgb.shape == (64, 96, 3)


def test_gif_larger_than_its_screen():
    """The first picture of a GIF may be larger than its screen: it counts."""
    content = bytearray(saved("GIF"))
    start = content.index(b"\x2c", 13 + 768)
    content[start + 5 : start + 9] = struct.pack("<HH", 60_000, 60_000)
    assert refusal(bytes(content)) == "too_large"


# ---- archives ----


def tar_of(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read(content, **options):
    archive = Archive(io.BytesIO(content), **options)
    return [(member.name, member.problem and member.problem.error_type) for member in archive], archive.report.problem


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_tar_that_expands_without_end(monkeypatch, compress):
    """What came before stays; what is passed over counts, too."""
    monkeypatch.setattr(archive_formats, "FREE_EXPANDED_BYTES", 1 << 20)
    picture = saved("PNG")
    members, problem = read(compress(tar_of(("a.png", picture), ("b.txt", bytes(64 << 20)), ("c.png", picture))))

    assert members == [("a.png", None)]
    assert problem.error_type == "too_large"
    assert "expand" in problem.message


def test_zip_that_expands_without_end(monkeypatch):
    """Members beyond the limit are refused; none is read further than the limit."""
    monkeypatch.setattr(archive_formats, "FREE_EXPANDED_BYTES", 20 << 20)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"{number}.png", bytes(8 << 20))
    members, _ = read(file.getvalue())

    refused = [number for number, (_, error) in enumerate(members) if error == "too_large"]
    assert len(members) == 6
    assert refused == list(range(refused[0], 6))
    assert 1 < refused[0] < 6


def test_archives_that_expand_a_little_are_read(monkeypatch):
    """The limit is for bombs."""
    monkeypatch.setattr(archive_formats, "FREE_EXPANDED_BYTES", 0)
    picture = saved("PNG")
    assert read(gzip.compress(tar_of(("a.png", picture))))[0] == [("a.png", None)]


@pytest.mark.parametrize("said", [0, 0xFFFFFFFF, 100], ids=["usual", "large", "large, with another size"])
def test_zip_with_an_index_that_does_not_fit(said):
    """It is refused before it is read, also where its size stands in the record of a large zip."""
    size = archive_formats.MAX_INDEX_BYTES + 1
    large = b"PK\x06\x06" + bytes(36) + struct.pack("<QQ", size, 0) + b"PK\x06\x07" + bytes(16) if said else b""
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, said or size, 0, 0)
    members, problem = read(b"PK\x03\x04" + bytes(100) + large + end)

    assert (members, problem.error_type) == ([], "too_large")


def test_zip_with_half_a_record_of_a_large_zip():
    """What says where that record is, without the record, does not hide the size that zipfile goes by."""
    size = archive_formats.MAX_INDEX_BYTES + 1
    fake = b"XX\x06\x06" + bytes(52) + b"PK\x06\x07" + bytes(16)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)
    members, problem = read(b"PK\x03\x04" + bytes(100) + fake + end)

    assert (members, problem.error_type) == ([], "too_large")


# ---- lists and tables ----


def test_list_without_ends(tmp_path):
    """A file that is no list is refused at its first name, and not collected."""
    path = tmp_path / "list"
    path.write_bytes(b"x" * (1 << 20))
    with pytest.raises(ConfigError, match="each name ends in a line"):
        list(Listing(InputConfig(files_from=(str(path),))))


def test_table_without_ends(tmp_path, monkeypatch):
    """A line that no table has is refused."""
    monkeypatch.setattr(table, "_MAX_LINE_LENGTH", 1000)
    path = tmp_path / "m.csv"
    path.write_text("path\na.jpg\n" + "x" * 2000)
    with pytest.raises(ConfigError, match=r"line 3 .* more than 1000 characters"):
        list(Listing(InputConfig(manifests=(str(path),))))


def test_a_value_of_any_length_makes_a_short_message(tmp_path):
    """What is wrong and what to do stand at its ends."""
    path = tmp_path / "m.csv"
    path.write_text(f"nothing,{'x' * 100_000}\na.jpg,1\n")
    with pytest.raises(ConfigError, match=r"^.{20,} \[\.\.\.\] .+$") as error:
        list(Listing(InputConfig(manifests=(str(path),))))
    assert len(str(error.value)) < 2100


# ---- servers ----


def test_a_video_that_fills_the_disk(monkeypatch):
    """A copy ends before the disk is full, and costs its input."""
    usage = files.shutil.disk_usage
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage(path)._replace(total=10**13, free=10**9))
    with (
        FileServer(Answer(bytes(1000))) as server,
        pytest.raises(InputError, match="TMPDIR") as error,
        files.local_copy(server.url),
    ):
        pass
    assert error.value.error_type == "too_large"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "9" * 5000},
        {"Content-Range": f"bytes {'9' * 5000}-1/2"},
        {"Retry-After": "Mon, 01 Jan 0001 00:00:00 +9999"},
        {"Retry-After": "9" * 5000},
    ],
)
@pytest.mark.parametrize("status", [200, 503])
def test_numbers_of_a_server_that_are_none(monkeypatch, headers, status):
    """They are no reason to fail in another way than by an error of the input."""
    monkeypatch.setattr("motivnet_cli.remote.files.seconds_before_retry", lambda *_, **__: 0)
    with FileServer(Answer(b"x" * 100, status=status, headers=headers, length=False)) as server:
        if status == 200:
            assert files.read_bytes(server.url, max_bytes=1000) == b"x" * 100
        else:
            with pytest.raises(InputError, match="503"):
                files.read_bytes(server.url, max_bytes=1000)


def test_a_server_that_sends_a_byte_now_and_then(monkeypatch):
    """It is given up, though something comes again and again."""
    monkeypatch.setattr(http, "PACE_SECONDS", 0.3)
    monkeypatch.setattr(http, "MIN_BYTES_A_SECOND", 10**9)
    with (
        FileServer(Answer(bytes(1 << 20), seconds_per_chunk=0.1)) as server,
        pytest.raises(InputError, match=r"was given up: \d+ bytes came in") as error,
    ):
        files.read_bytes(server.url, max_bytes=1 << 21)
    assert error.value.error_type == "unreachable"


def test_an_answer_of_many_gzip_streams():
    """It is read as one, to the limit of a picture."""
    packed = gzip.compress(bytes(range(256)) * 40) * 100
    with (
        FileServer(Answer(packed, headers={"Content-Encoding": "gzip"})) as server,
        files.local_copy(server.url) as path,
    ):
        assert Path(path).read_bytes() == bytes(range(256)) * 40 * 100


@pytest.mark.parametrize("damage", [lambda packed: packed[:-10], lambda packed: packed[:-6] + b"\0\0" + packed[-4:]])
def test_a_compressed_answer_that_is_cut_or_damaged(monkeypatch, damage):
    """It is no whole file, whatever came out of it."""
    monkeypatch.setattr("motivnet_cli.remote.files.seconds_before_retry", lambda *_, **__: 0)
    packed = damage(gzip.compress(bytes(range(256)) * 40))
    with (
        FileServer(Answer(packed, headers={"Content-Encoding": "gzip"})) as server,
        pytest.raises(InputError) as error,
    ):
        files.read_bytes(server.url, max_bytes=1 << 20)
    assert error.value.error_type == "unreachable"


# ---- videos ----


def test_other_streams_are_not_named_by_the_hundred(tmp_path):
    """A remark is a sentence, however many streams there are."""
    make_clip(tmp_path / "one.mp4", frames=3)
    write_streams(tmp_path / "many.mkv", [tmp_path / "one.mp4"] * 40)
    reader = VideoReader(str(tmp_path / "many.mkv"), VideoConfig(), max_pixels=10**6)
    assert len(list(reader)) == 1

    assert reader.report.problem.error_type == "other_streams"
    assert "and 34 more" in reader.report.problem.message
    assert len(reader.report.problem.message) < 200


def test_a_decoder_gives_signs_of_life_while_sound_comes(tmp_path, monkeypatch):
    """Each packet counts, also of a stream that is not read."""
    path = tmp_path / "a.mkv"
    make_clip(path, frames=2, audio_s=3)
    said = []
    monkeypatch.setattr(video_worker, "send_message", said.append)
    monkeypatch.setattr(video_worker, "BEAT_SECONDS", -1)
    video_worker.decode(request_for(path), Slots())

    assert len([message for message in said if message == Alive()]) > 40


def test_a_video_that_ffmpeg_does_not_read_yet(monkeypatch, tmp_path):
    """Its refusal is an answer for the input, not the end of the process."""
    path = tmp_path / "a.mkv"
    make_clip(path, frames=2)

    def refuse(*_, **__):
        raise av.error.PatchWelcomeError(1163346256, "Not yet implemented")

    monkeypatch.setattr(video_container, "_open", refuse)
    with pytest.raises(InputError) as error:
        video_worker.decode(request_for(path), Slots())
    assert error.value.error_type == "unsupported"
