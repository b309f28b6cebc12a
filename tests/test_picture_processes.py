"""Pictures that hang, crash or take all memory cost themselves; those that others decode come out the same."""

from __future__ import annotations

import errno
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import polars as pl
import psutil
import pytest
from PIL import Image

from motivnet_cli.config import LoaderConfig
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.inputs import picture_processes, picture_worker
from motivnet_cli.inputs.decode import decode, decode_bytes
from motivnet_cli.inputs.picture_processes import PictureProcesses
from tests import pictures
from tests.pictures import quadrants
from tests.runs import finish

APART = {"bmp": "BMP", "tif": "TIFF", "ppm": "PPM", "avif": "AVIF", "jp2": "JPEG2000"}
ENDLESS = b"P1\n4000 4000\n" + b"#\n" * 5_000_000
"""A plain PBM of 10 MB: at each comment Pillow copies the rest of a block, which takes minutes in all."""


saved = partial(pictures.saved, picture=quadrants(60, 40))


def workers():
    return [each for each in psutil.Process().children() if "motivnet_cli.inputs.picture_worker" in each.cmdline()]


def decoding_for_ever(processes, threads):
    """A future of a picture whose process is at it."""
    future = threads.submit(decode_bytes, ENDLESS, max_pixels=10**8, apart=processes.decode)
    while not workers():
        assert not future.done()
        time.sleep(0.01)
    return future


def test_pixels_are_those_that_a_thread_decodes(tmp_path):
    """For a path and for bytes, of one process one after the other, which is gone afterwards."""
    with PictureProcesses(max_pixels=10**6) as processes:
        for ending, file_format in APART.items():
            content = saved(file_format)
            path = tmp_path / f"a.{ending}"
            path.write_bytes(content)
            for frame in (
                decode(str(path), max_pixels=10**6, apart=processes.decode),
                decode_bytes(content, max_pixels=10**6, apart=processes.decode),
            ):
                assert np.array_equal(frame.rgb, decode_bytes(content, max_pixels=10**6).rgb)
                assert frame.rgb.flags.writeable
            assert len(workers()) == 1
    assert workers() == []


def test_a_refusal_is_the_same(tmp_path):
    """A picture that cannot be read has the error that a thread gives it, and the next one is read."""
    damaged = saved("TIFF")[:200]
    with pytest.raises(InputError) as here:
        decode_bytes(damaged, max_pixels=10**6)
    with PictureProcesses(max_pixels=10**6) as processes:
        with pytest.raises(InputError) as apart:
            decode_bytes(damaged, max_pixels=10**6, apart=processes.decode)
        assert decode_bytes(saved("TIFF"), max_pixels=10**6, apart=processes.decode).rgb.shape == (40, 60, 3)
        assert len(workers()) == 1

    assert (apart.value.error_type, str(apart.value)) == (here.value.error_type, str(here.value))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_common_pictures_are_decoded_in_their_thread(file_format):
    """No process is asked for them."""
    assert decode_bytes(saved(file_format), max_pixels=10**6, apart=pytest.fail).rgb.shape == (40, 60, 3)


def test_a_picture_that_hangs_is_given_up():
    """After the time for a picture its process is ended, and another serves the next picture."""
    with PictureProcesses(max_pixels=10**8, timeout_s=2) as processes:
        with pytest.raises(InputError, match="2 s, the time of --input-timeout") as error:
            decode_bytes(ENDLESS, max_pixels=10**8, apart=processes.decode)
        assert workers() == []
    assert error.value.error_type == "decoder_stall"


def test_a_crash_costs_one_picture():
    """A decoder that dies is an error of its picture."""
    with PictureProcesses(max_pixels=10**8) as processes, ThreadPoolExecutor(1) as threads:
        future = decoding_for_ever(processes, threads)
        workers()[0].send_signal(signal.SIGSEGV)
        with pytest.raises(InputError, match="SIGSEGV") as error:
            future.result()
        assert decode_bytes(saved("BMP"), max_pixels=10**6, apart=processes.decode).rgb.shape == (40, 60, 3)
    assert error.value.error_type == "decoder_crash"


@pytest.mark.parametrize("fault", [OSError(errno.EAGAIN, "no process can be started"), ValueError("a fault of ours")])
def test_a_fault_of_this_process_is_none_of_the_picture(tmp_path, fault):
    """It ends the run, as for a video: no picture is listed as damaged for it."""

    def apart(_):
        raise fault

    path = tmp_path / "a.tif"
    path.write_bytes(saved("TIFF"))
    for ask in (partial(decode, str(path)), partial(decode_bytes, path.read_bytes())):
        with pytest.raises(type(fault)) as error:
            ask(max_pixels=10**6, apart=apart)
        assert error.value is fault


def test_time_in_which_a_job_is_suspended_ends_no_decoder():
    """A process that nobody looks after is ended by the time that it computes, not by the clock."""
    with picture_worker.bounded(60):
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getitimer(signal.ITIMER_PROF)[0] > 60
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_closing_waits_for_no_picture():
    """What is still decoded when nobody wants it any more is ended, and nothing is begun."""
    processes = PictureProcesses(max_pixels=10**8)
    with ThreadPoolExecutor(1) as threads:
        future = decoding_for_ever(processes, threads)
        with processes.closed():
            assert isinstance(future.exception(), InputError)
            with pytest.raises(InputError):
                decode_bytes(saved("BMP"), max_pixels=10**6, apart=processes.decode)
    assert workers() == []
    with processes:
        assert decode_bytes(saved("BMP"), max_pixels=10**6, apart=processes.decode).rgb.shape == (40, 60, 3)


@pytest.mark.skipif(not hasattr(signal, "pidfd_send_signal"), reason="only Linux bounds a process's memory")
def test_memory_of_a_process_is_bounded(monkeypatch):
    """A file of kilobytes that needs more than its process may take is `out_of_memory`."""
    monkeypatch.setattr(picture_processes, "BASE_MEMORY_BYTES", 64 << 20)
    monkeypatch.setattr(picture_processes, "MEMORY_BYTES_A_PIXEL", 0)
    blank = saved("TIFF", picture=Image.new("1", (10_000, 10_000)), compression="group4")
    assert len(blank) < 100_000
    with (
        PictureProcesses(max_pixels=10**8) as processes,
        pytest.raises(InputError) as error,
    ):
        decode_bytes(blank, max_pixels=10**8, apart=processes.decode)
    assert error.value.error_type == "out_of_memory"


def test_threads_have_a_process_each():
    """Pictures of several threads are decoded at the same time, and none is mixed up with another."""
    sizes = [quadrants(30 + number, 20 + number) for number in range(8)]
    contents = [saved("TIFF", picture=picture) for picture in sizes] * 4
    with PictureProcesses(max_pixels=10**6) as processes, ThreadPoolExecutor(3) as threads:
        barrier = threading.Barrier(3)
        for _ in range(3):
            threads.submit(barrier.wait)
        frames = list(threads.map(lambda data: decode_bytes(data, max_pixels=10**6, apart=processes.decode), contents))
        assert 1 <= len(workers()) <= 3
    for frame, picture in zip(frames, sizes * 4, strict=True):
        assert np.array_equal(frame.rgb, np.asarray(picture))


def test_a_run_goes_on_behind_a_picture_that_hangs(tmp_path):
    """It is one failed input, and those behind it are read."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.ppm").write_bytes(ENDLESS)
    for name in ("b.jpg", "c.png"):
        quadrants().save(folder / name)

    finish(folder, tmp_path / "p.parquet", "--input-timeout", "2", "--threads", "2")

    inputs = pl.read_parquet(tmp_path / "p.inputs.parquet").select("input", "status", "error_type").rows()
    assert inputs == [("a.ppm", "failed", "decoder_stall"), ("b.jpg", "no_face", None), ("c.png", "no_face", None)]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_times_that_are_none(seconds):
    """A time for a picture is a positive number."""
    with pytest.raises(ConfigError, match="input-timeout"):
        LoaderConfig(input_timeout_s=seconds)
