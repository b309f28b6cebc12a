"""Child processes run the code of this program alone, and nothing that is printed is taken for their messages."""

from __future__ import annotations

import pytest

from motivnet_cli.children import Child, ProtocolError, Silence
from motivnet_cli.config import VideoConfig
from motivnet_cli.inputs import decoder_process, video_protocol
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.scale import messages
from tests.agreement import assert_same_rows
from tests.pictures import SAMPLE_DATA
from tests.runs import at_start, finish

PRINTS = "print('a line from the site', flush=True)\n"
"""What the start files of some clusters do in every Python."""


@pytest.fixture
def within_traps(traps, monkeypatch):
    monkeypatch.chdir(traps)


def read_sample():
    reader = VideoReader(str(SAMPLE_DATA / "face.mp4"), VideoConfig(fps=2), max_pixels=10**7)
    return [frame.index for frame in reader], reader.report.is_whole


@pytest.mark.usefixtures("within_traps")
def test_a_decoder_imports_nothing_from_the_working_folder(tmp_path, monkeypatch):
    """A data set may hold an `av.py`: it is not run, and Python's start files may print."""
    monkeypatch.setenv("PYTHONPATH", at_start(tmp_path, PRINTS)["PYTHONPATH"])

    assert read_sample() == ([0, 13, 25, 38, 50, 63, 75, 88], True)


@pytest.mark.slow
@pytest.mark.usefixtures("within_traps")
def test_workers_import_nothing_from_the_working_folder(photos, undisturbed, tmp_path, monkeypatch):
    """Nor do workers; they bear start files that print, and settings that no pipe takes at once."""
    monkeypatch.setenv("PYTHONPATH", at_start(tmp_path, PRINTS)["PYTHONPATH"])
    out = tmp_path / "p.parquet"
    talk = finish(photos, out, "--devices", "cpu", "--exclude", "n" * 200_000)

    assert "cpu: a line from the site" in talk
    assert_same_rows(out, undisturbed)


def test_a_line_that_is_no_message_costs_the_video(monkeypatch):
    """It is said, in place of a fault of the program."""

    class Babbler(Child):
        def __init__(self, module, **options):
            super().__init__("this", **options)  # a module of Python that prints
            self.messages, self.printed = self.printed, self.messages

    monkeypatch.setattr(decoder_process, "Child", Babbler)

    with pytest.raises(Exception, match="a message of a child process cannot be read: b'The Zen of Python"):
        read_sample()


@pytest.mark.parametrize(
    "line", [b"", b"a line from the site\n", b"[]\n", b'{"Tally": {}}\n', b'["SharedFrame", {}]\n']
)
@pytest.mark.parametrize("decode", [messages.decode_message, video_protocol.from_line])
def test_what_is_no_message(decode, line):
    """Whatever else comes through the pipe is one error."""
    with pytest.raises(ProtocolError, match="a message of a child process cannot be read"):
        decode(line)


def test_time_in_which_everything_was_suspended_is_no_silence():
    """A job that a scheduler suspends for an hour finds none of its children hung when it goes on."""
    silence = Silence()
    silence.add(3600.0)
    silence.add(0.25)

    assert silence.seconds == 1.25
    silence.end()
    assert silence.seconds == 0
