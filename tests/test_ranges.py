"""Videos behind URLs, read by ranges: the rows of the local file, from no more bytes than they need."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import os
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pytest

from motivnet_cli.config import LoaderConfig, VideoConfig
from motivnet_cli.engine.picture_reader import PictureReader
from motivnet_cli.errors import InputError
from motivnet_cli.inputs import blocks
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.remote import ranges, retries, storage
from motivnet_cli.remote.ranges import ranges_or_copy
from tests.clips import write_clip
from tests.server import Answer, FileServer

BLOCK_BYTES = 1 << 15
NUM_FRAMES, RATE = 240, 10
CLIPS = {
    "index at the end": ("a.mp4", {}),
    "mkv": ("c.mkv", {}),
    "transport stream": ("d.ts", {}),
    "fragments": ("e.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Noise of 24 seconds, 4 KB a frame: no more frames are read ahead than a decoder keeps, as of real videos."""
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, 64, 96, 3), dtype=np.uint8)
    for name, options in CLIPS.values():
        pictures = ((rgb, number / RATE) for number, rgb in enumerate(noise))
        write_clip(folder / name, pictures, fps=RATE, gop=10, **options)
    return folder


@pytest.fixture(scope="module")
def local(clips):
    """The rows of each clip where it is a local file."""
    return {kind: rows(str(clips / name)) for kind, (name, _) in CLIPS.items() if kind != "fragments"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(ranges, "BLOCK_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(retries, "BACKOFF_SECONDS", 0.001)


def rows(source):
    return rows_of(VideoReader(source, VideoConfig(fps=None), max_pixels=10**6))


def rows_of(reader):
    """Frames with their numbers and times, and what is said at the end."""
    return [(frame.index, frame.time_s, frame.rgb.tobytes()) for frame in reader], reader.report


def remote_rows(url, **sampling):
    with PictureReader(VideoConfig(**{"fps": None} | sampling), LoaderConfig()).opened_video(url) as reader:
        return rows_of(reader)


def content_of(clips, kind="mkv"):
    return (clips / CLIPS[kind][0]).read_bytes()


def blocks_of(content):
    return -(-len(content) // BLOCK_BYTES)


@pytest.mark.parametrize("kind", ["index at the end", "mkv", "transport stream"])
def test_rows_are_those_of_the_local_file(clips, local, monkeypatch, kind):
    """Each block is asked for once, or nearly, over two connections."""
    block_bytes = BLOCK_BYTES if kind != "transport stream" else 1 << 17  # of which FFmpeg reads 250 KB at the end
    monkeypatch.setattr(ranges, "BLOCK_BYTES", block_bytes)
    content = content_of(clips, kind)
    with FileServer() as server:
        url = server.on(f"/{CLIPS[kind][0]}", Answer(content, keep_open=True))

        assert remote_rows(url) == local[kind]
        assert len(local[kind][0]) == NUM_FRAMES
        assert server.num_connections == 2
        assert len(content) // block_bytes < len(server.requests) < len(content) / block_bytes + 8


def test_a_part_takes_less_than_the_file(clips, local):
    """Every third frame to the second second: the beginning, the index, and one block that is read ahead."""
    content = content_of(clips, "index at the end")
    with FileServer(Answer(content)) as server:
        frames, report = remote_rows(server.url, every=3, start_s=0.5, end_s=2)

        assert frames == local["index at the end"][0][5:20:3]
        assert report.is_whole
        assert server.num_bytes < len(content) / 2


def test_a_broken_range_goes_on_where_it_broke(clips):
    """To its own end, and under the condition that the file is still the same."""
    content = content_of(clips)
    answers = [Answer(content), Answer(content, drop_after=3000), Answer(b"", 503), Answer(content)]
    with FileServer(*answers) as server, ranges_or_copy(server.url) as source:
        assert source.block(0) + source.block(7) == content[:BLOCK_BYTES] + content[7 * BLOCK_BYTES : 8 * BLOCK_BYTES]

        first, last = 7 * BLOCK_BYTES, 8 * BLOCK_BYTES - 1
        asked = [(0, BLOCK_BYTES - 1), (first, last), (first + 3000, last), (first + 3000, last)]
        assert server.ranges() == [f"bytes={one}-{other}" for one, other in asked]
        assert {request.headers["If-Range"] for request in server.requests[1:]} == {'"one"'}


TIMES = ("Mon, 02 Nov 2026 00:00:00 GMT", "Mon, 02 Nov 2026 00:00:01 GMT")


@pytest.mark.parametrize("ignores_condition", [False, True])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"etag": '"two"'}),
        ({"etag": 'W/"one"'}, {"etag": 'W/"two"'}),
        ({"etag": None, "last_modified": TIMES[0]}, {"etag": None, "last_modified": TIMES[1]}),
    ],
    ids=["strong", "weak", "time alone"],
)
def test_another_version_is_told(clips, before, after, ignores_condition):
    """By a block that is read anew as by another one, and where the server takes no condition too."""
    content = content_of(clips)
    for number in (1, 5):
        later = Answer(content, **after, ignores_condition=ignores_condition)
        with FileServer(*[Answer(content, **before)] * 2, later) as server, ranges_or_copy(server.url) as source:
            source.block(1)
            with pytest.raises(InputError, match="changed while it was read") as error:
                source.block(number)
            assert error.value.error_type == "changed"


def test_a_video_that_changes_is_not_mixed(clips, local):
    """Its frames up to there are kept, and its row says so; without a frame there is nothing to keep."""
    content = content_of(clips)
    with FileServer(*[Answer(content)] * 16, Answer(content, etag='"two"')) as server:
        frames, report = remote_rows(server.url)
    assert 0 < len(frames) < NUM_FRAMES
    assert frames == local["mkv"][0][: len(frames)]
    assert (report.is_whole, report.problem.error_type) == (False, "changed")

    content = content_of(clips, "index at the end")
    with (
        FileServer(Answer(content), Answer(content, etag='"two"')) as server,
        pytest.raises(InputError, match="changed while it was read"),
    ):
        remote_rows(server.url)


@pytest.mark.parametrize(("kind", "backend"), [("fragments", "auto"), ("index at the end", "decord")])
def test_copied_where_the_decoder_wants_it(clips, kind, backend):
    """FFmpeg walks through all of an MP4 in fragments before it begins, and decord opens files by name."""
    if backend == "decord":
        pytest.importorskip("decord")
    content = content_of(clips, kind)
    with FileServer(Answer(content)) as server:
        config = VideoConfig(fps=None, backend=backend)
        with PictureReader(config, LoaderConfig()).opened_video(server.url) as reader:
            assert [frame.index for frame in reader] == list(range(NUM_FRAMES))
        assert server.num_bytes <= len(content) + BLOCK_BYTES


PACKED = {"headers": {"Content-Encoding": "gzip"}}


@pytest.mark.parametrize(
    ("answer", "num_requests"),
    [({"ranges": False}, 1), ({"etag": None}, 2), ({"etag": None, "ranges": False, "length": False}, 1), (PACKED, 2)],
    ids=["no ranges", "no version", "no length", "compressed"],
)
def test_copied_where_there_are_no_ranges(clips, answer, num_requests):
    """Or nothing that tells one version of the file from another."""
    content = content_of(clips)
    sent = gzip.compress(content) if answer is PACKED else content
    with FileServer(Answer(sent, **answer)) as server:
        with ranges_or_copy(server.url) as source:
            assert Path(source).read_bytes() == content
        assert len(server.requests) == num_requests
    assert not Path(source).exists()


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES])
def test_a_small_file_is_copied(size):
    """Its first range is all of it."""
    with FileServer(Answer(b"x" * size)) as server:
        with ranges_or_copy(server.url) as source:
            assert Path(source).read_bytes() == b"x" * size
        assert len(server.requests) == (1 if size else 2)


def test_what_is_read_again_and_again_is_copied(clips, caplog):
    """So that little more than twice the file is fetched; the bytes are the same before and after."""
    caplog.set_level(logging.INFO, "motivnet_cli")
    content = content_of(clips)
    last = blocks_of(content) - 1
    with FileServer(Answer(content)) as server, ranges_or_copy(server.url) as source:
        for number in [1, last] * 50:
            assert source.block(number) == content[number * BLOCK_BYTES :][:BLOCK_BYTES]
        assert len(server.requests) == blocks_of(content) * 2 + ranges.MAX_BLOCKS_READ_AGAIN
    assert "is copied" in caplog.text


def test_a_copy_is_of_the_same_version(clips):
    """One that has changed before it is made is none."""
    content = content_of(clips)
    with FileServer(Answer(content)) as server, ranges_or_copy(server.url) as source:
        for _ in range(blocks_of(content) + ranges.MAX_BLOCKS_READ_AGAIN - 1):
            source.block(1)
        server.on("/file", Answer(content, etag='"two"'))
        for number in (1, 2):
            with pytest.raises(InputError, match="changed"):
                source.block(number)


def test_failures_name_no_secrets(clips):
    """Neither those of the first request nor those of a later one."""
    content = content_of(clips)
    for answers in ([Answer(b"", 404)], [Answer(content), Answer(b"", 403)]):
        with FileServer(*answers) as server, pytest.raises(InputError) as error:
            remote_rows(server.url.replace("//", "//user:hush@") + "?token=hush")
        assert error.value.error_type in ("not_found", "permission_denied")
        assert f":{server.port}/file answered 40" in str(error.value)
        assert "hush" not in str(error.value)


def test_a_server_that_stops_giving_ranges(clips):
    """The whole file in place of a range is a failure, not the wrong bytes."""
    content = content_of(clips)
    with FileServer(Answer(content), Answer(content, ranges=False)) as server, ranges_or_copy(server.url) as source:
        source.block(0)
        with pytest.raises(InputError, match="in place of a range") as error:
            source.block(1)
    assert error.value.error_type == "unreachable"


def test_the_decoder_is_killed(clips, local):
    """It costs this video, and what is read of it goes on with the next reader."""
    with FileServer(Answer(content_of(clips))) as server, ranges_or_copy(server.url) as source:
        reader = VideoReader(source, VideoConfig(fps=None), max_pixels=10**6)
        frames = []
        for frame in reader:
            frames.append(frame.index)
            for child in psutil.Process().children():
                child.kill()
        assert 0 < len(frames) < NUM_FRAMES
        assert reader.report.problem.error_type == "decoder_crash"
        assert rows(source) == local["mkv"]
    assert "blocks" not in {thread.name for thread in threading.enumerate()}


def test_what_a_decoder_keeps():
    """A few blocks, those that were read last; each is waited for with signs of life."""
    asked, beats = [], []

    class Source:
        name, size, block_bytes, num_blocks = "a", 100 * 1000, 1000, 100

        def block(self, number):
            asked.append(number)
            if number == 50:
                time.sleep(1.2)
            return bytes([number]) * 1000

    with contextlib.closing(blocks.BlockServer(Source())) as server:
        address = replace(server.address, descriptor=os.dup(server.address.descriptor))
        server.begin()
        kept = blocks.Blocks(address, beat=lambda: beats.append(1))
        file = blocks.BlockFile(kept, "a")
        for at in (0, 50_500, 1000, 51_000, 2500, 50_000, 99_900, 52_000, 3500, 50_500, 53_500):
            file.seek(at)
            assert file.read(1000) == b"".join(bytes([each // 1000]) for each in range(at, min(at + 1000, 100_000)))
        assert len(kept._kept) <= blocks.KEPT_BLOCKS
        assert beats
        assert [asked.count(number) for number in (50, 51)] == [1, 1]
        for number in range(20, 40):
            kept.block(number)
            kept.block(60)
        assert (asked.count(0), asked.count(60)) == (1, 1)
        with pytest.raises(OSError, match="no more blocks"):
            kept.block(100)
        kept._socket.close()


# ---- buckets ----


@pytest.fixture
def bucket():
    yield fsspec.filesystem("memory")
    fsspec.filesystem("memory").store.clear()


def test_a_stored_file_that_changes(clips, bucket):
    """What tells is what the storage says of it, here the time at which it was made."""
    content = content_of(clips)
    bucket.pipe("/b/c.mkv", content)
    with ranges_or_copy("memory://b/c.mkv") as source:
        assert source.block(3) == content[3 * BLOCK_BYTES :][:BLOCK_BYTES]
        bucket.pipe("/b/c.mkv", content)
        with pytest.raises(InputError, match="changed"):
            source.block(4)


def test_a_chain_of_urls_is_copied(bucket):
    """What another driver unpacks is not read from its middle."""
    with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w:gz") as archive:
        member = tarfile.TarInfo("c.mkv")
        member.size, member.mtime = BLOCK_BYTES * 3, 1
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    bucket.pipe("/b/a.tar.gz", packed.getvalue())
    with ranges_or_copy("tar://c.mkv::memory://b/a.tar.gz") as source:
        assert Path(source).read_bytes() == bytes(BLOCK_BYTES * 3)


def test_a_video_in_a_bucket(clips, local, s3, monkeypatch):
    """By signed requests of this process, each checked."""
    name = s3.new_bucket()
    content = content_of(clips, "index at the end")
    s3.put(name, "a.mp4", content)
    url = f"s3://{name}/a.mp4"
    asked = []
    read = storage.file_system(url)[0].cat_file
    monkeypatch.setattr(
        storage.file_system(url)[0], "cat_file", lambda path, **part: asked.append(part) or read(path, **part)
    )

    assert remote_rows(url, end_s=2)[0] == local["index at the end"][0][:20]
    assert len(asked) < blocks_of(content) / 2

    with ranges_or_copy(url) as source:
        assert source.block(3) == content[3 * BLOCK_BYTES :][:BLOCK_BYTES]
        s3.put(name, "a.mp4", bytes(len(content)))
        with pytest.raises(InputError, match="changed"):
            source.block(4)
