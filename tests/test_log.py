"""What every command says on stderr and in a log file: --quiet, --verbose, --log-file, --log-format."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from motivnet_cli.cli.log import say, warn
from motivnet_cli.cli.options import LogOptions
from motivnet_cli.cli.terminal import importing, talking
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.scale.messages import Log, decode_message, encode_message
from tests.clips import make_clip
from tests.commands import all_commands
from tests.pictures import SAMPLE_DATA
from tests.runs import at_start, command, motivnet

MODEL = ("--model", "expression-net")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A finished run of one picture."""
    folder = tmp_path_factory.mktemp("output")
    (folder / "photos").mkdir()
    shutil.copy(SAMPLE_DATA / "astronaut.png", folder / "photos")
    motivnet("annotate", folder / "photos", "--out", folder / "p.parquet", *MODEL)
    return folder / "p.parquet"


@pytest.mark.parametrize("words", all_commands())
def test_every_command_takes_the_group(words):
    options = {name for parameter in all_commands()[words].params for name in parameter.opts}

    assert {"--quiet", "-q", "--verbose", "-v", "--log-file", "--log-format"} <= options


CALLS = {
    "annotate": "annotate {photos} --model expression-net --out {tmp}/p.parquet",
    "status": "status {out}",
    "plan": "plan --estimate {out} --inputs 1000",
    "verify": "verify {out}",
    "slurm-script": "slurm-script --shards 2 -- {photos} --out {tmp}/p.parquet",
    "completion": "completion bash",
    "models": "models",
    "doctor": "doctor --folder {tmp}",
    "download-weights": "download-weights --list --store {tmp}",
    "evaluate": "evaluate --list",
    "summary": "summary {out}",
    "cite": "cite {out}",
    "export predictions": "export predictions {out} --to csv --out {tmp}/p.csv",
    "export report": "export report {out} --out {tmp}/r.html",
    "export merge": "export merge {out} --out {tmp}/merged.parquet",
    "export crops": "export crops {out} --out {tmp}/crops",
    "export overlay": "export overlay {out} --out {tmp}/seen",
    "export model": "export model expression-net --to safetensors --out {tmp}/m.safetensors",
}
"""A call of each command that takes no longer than a second or two once libraries are imported."""
ELSEWHERE = {"bench", "train", "compare predictions", "compare models", "compare data"}
"""Their tests run them into a pipe without --json and with it (test_machine, test_train_command, test_evaluate)."""
SCRIPTS = {"slurm-script", "completion"}
"""Their result is a script, which is no JSON."""
WRITERS = {"annotate", "export predictions", "export report", "export merge", "export crops", "export overlay"} | {
    "export model"
}
"""Their result is a file: stdout stays empty."""


def test_every_command_is_tried():
    assert set(CALLS) | ELSEWHERE == set(all_commands())
    assert set(CALLS).isdisjoint(ELSEWHERE)


@pytest.mark.parametrize("words", sorted(set(all_commands()) - SCRIPTS))
def test_every_command_takes_json(words):
    """But for those that print a script."""
    assert "--json" in {name for parameter in all_commands()[words].params for name in parameter.opts}


@pytest.mark.parametrize("words", CALLS)
def test_what_goes_where(words, output, tmp_path):
    """With --quiet nothing on stderr, also from C libraries; JSON on stdout if it is asked for, and not otherwise."""
    first, second = (
        CALLS[words].format(photos=output.parent / "photos", out=output, tmp=tmp_path / name).split() for name in "ab"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    at = first.index("--") if "--" in first else len(first)
    with _stderr_of_process(tmp_path / "stderr") as written:
        plain = motivnet(*first[:at], "--quiet", *first[at:])
    assert (plain.stderr, written.read_text()) == ("", "")
    assert (plain.stdout == "") == (words in WRITERS)
    with pytest.raises(json.JSONDecodeError):
        json.loads(plain.stdout)
    if words in SCRIPTS:
        return
    asked = motivnet(*second, "--json")
    assert json.loads(asked.stdout) is not None
    for line in [*plain.stdout.splitlines(), *asked.stderr.splitlines()]:
        assert "\x1b" not in line
        assert not line.endswith(" ")


@contextlib.contextmanager
def _stderr_of_process(path):
    """What is written past Python's stderr within the block, by C libraries or children, is in the file."""
    before, file = os.dup(2), os.open(path, os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 2)
    try:
        yield path
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(file)


def test_a_quiet_process_says_nothing(output, tmp_path):
    """As above from the first import on, in a process of its own; nor of a broken picture and a broken video."""
    photos = tmp_path / "photos"
    shutil.copytree(output.parent / "photos", photos)
    (photos / "broken.png").write_bytes((photos / "astronaut.png").read_bytes()[:4000])
    make_clip(photos / "broken.avi", frames=20, fps=25, codec="mjpeg", pixel_format="yuvj420p")
    clip = bytearray((photos / "broken.avi").read_bytes())
    *_, tenth_end = itertools.islice(re.finditer(rb"\xff\xd9", clip), 10)
    clip[tenth_end.end() - 60 : tenth_end.end() - 2] = b"\xfe" * 58
    (photos / "broken.avi").write_bytes(clip)
    arguments = command(photos, tmp_path / "p.parquet", "--frames", "all", "--quiet")
    run = subprocess.run(arguments, capture_output=True, check=True)
    problems = set(read_inputs(tmp_path / "p.parquet")["error_type"])

    assert (run.stdout, run.stderr) == (b"", b"")
    assert problems == {None, "truncated", "decoder_errors"}


def test_quiet_says_errors():
    assert motivnet("status", "nowhere.parquet", "--quiet", code=2).stderr.startswith("error: ")


def test_a_log_file_has_what_is_said(output, tmp_path):
    """Whole lines with UTC time and level, appended; with --quiet in the file alone, and errors in both."""
    log = tmp_path / "run.log"
    log.write_text("before\n")
    run = motivnet(
        "annotate", output.parent / "photos", *MODEL, "--out", tmp_path / "p.parquet", "--log-file", log, "-q"
    )
    failed = motivnet("status", tmp_path / "nowhere.parquet", "--log-file", log, code=2)
    first, *lines = log.read_text().splitlines()
    parsed = [re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([A-Z]+) (.+)", line).groups() for line in lines]
    times = [datetime.datetime.fromisoformat(time.replace("Z", "+00:00")) for time, _, _ in parsed]

    assert first == "before"
    assert run.stderr == ""
    assert times == sorted(times)
    assert abs(times[-1] - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=10)
    assert ("INFO", f"written   {tmp_path / 'p.parquet'}") in [(level, text) for _, level, text in parsed]
    assert parsed[-1][1:] == ("ERROR", failed.stderr.removeprefix("error: ").strip())


def test_json_has_an_object_for_each_line(output, tmp_path):
    """In the file if there is one, else on stderr; with level, time and what is known of the message."""
    photos = tmp_path / "photos"
    shutil.copytree(output.parent / "photos", photos)
    (photos / "bad\u202e.png").write_bytes(b"text")
    call = ("annotate", photos, *MODEL, "--max-failures", "1", "--log-format", "json", "--out")
    on_stderr = motivnet(*call, tmp_path / "a.parquet").stderr
    told = motivnet(*call, tmp_path / "b.parquet", "--log-file", tmp_path / "log.json").stderr
    for text in (on_stderr, (tmp_path / "log.json").read_text()):
        lines = [json.loads(line) for line in text.splitlines()]
        assert all({"time", "level", "message"} <= line.keys() for line in lines)
        (failed,) = [line for line in lines if "error_type" in line]
        assert (failed["level"], failed["input"], failed["error_type"]) == ("info", "bad\u202e.png", "not_an_image")
    assert "failed: bad\\u202e.png" in told


@pytest.mark.parametrize("name", ["nowhere/run.log", ".", "p.parquet"])
def test_a_log_file_that_cannot_be_is_an_error_at_the_start(name, output, tmp_path):
    """Nothing was begun, and what lies there is as it was."""
    shutil.copy(output, tmp_path / "p.parquet")
    run = motivnet(
        "annotate", SAMPLE_DATA, *MODEL, "--out", tmp_path / "new.parquet", "--log-file", tmp_path / name, code=2
    )

    assert f"error: --log-file '{tmp_path / name}' " in run.stderr
    assert (tmp_path / "p.parquet").read_bytes() == output.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_the_log_ends_nothing(output, tmp_path):
    """It is said once."""
    run = motivnet(
        "annotate", output.parent / "photos", *MODEL, "--out", tmp_path / "p.parquet", "--log-file", "/dev/full"
    )

    assert run.stderr.count("warning: --log-file '/dev/full' can no longer be written: No space left") == 1
    assert len(read_faces(tmp_path / "p.parquet")) == 1


def test_a_reader_of_stderr_that_goes_away_ends_nothing(monkeypatch):
    """Or a run would end with exit code 0, as when stdout is read no more, and be half done."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", gone)
        with talking(LogOptions()):
            say("to nobody")
            say("again")


def test_secrets_of_urls_are_in_no_log(tmp_path):
    log = tmp_path / "log.json"
    with talking(LogOptions(log_file=str(log), log_format="json", quiet=True)):
        say("reading https://user:hunter2@host/a.png?token=hunter2", input="https://user:hunter2@host/a.png")

    assert "host/a.png" in log.read_text()
    assert "hunter2" not in log.read_text()


def test_a_fault_has_its_traceback_where_it_is_asked_for(tmp_path, monkeypatch, capsys):
    """On stderr with --verbose or MOTIVNET_DEBUG, in the log file always, and the last line says what to do."""
    log = tmp_path / "log"

    def fail(**options):
        with pytest.raises(Exception, match="1"), talking(LogOptions(**options)):
            raise KeyError("odd")
        return capsys.readouterr().err.splitlines()

    plain = fail(log_file=str(log))
    verbose = fail(verbose=True)
    monkeypatch.setenv("MOTIVNET_DEBUG", "1")

    assert len(plain) == 1
    assert plain[0].startswith("error: a fault in motivnet: KeyError: 'odd'; ")
    assert verbose == fail()
    assert verbose[0] == "Traceback (most recent call last):"
    assert verbose[-1] == plain[0]
    assert "Traceback" in log.read_text()


def test_warnings_of_libraries_are_log_lines(capsys):
    with importing():
        import torch  # noqa: F401 - whose log has a handler of its own
    with talking(LogOptions()):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("odd numbers", RuntimeWarning, stacklevel=1)
        logging.getLogger("torch.something").warning("no %s", "kernel")
        warn("of ours")
    with talking(LogOptions(quiet=True)):
        logging.getLogger("torch.something").warning("no %s", "kernel")
    said = capsys.readouterr().err.splitlines()

    assert said[0].startswith("warning: py.warnings: RuntimeWarning: odd numbers (")
    assert said[1:] == ["warning: torch.something: no kernel", "warning: of ours"]


def test_a_library_that_logs_wrongly_ends_nothing(tmp_path, monkeypatch, capsys):
    """Its words and its values are said as they are, on stderr and in the log file."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest raise
    with talking(LogOptions(log_file=str(tmp_path / "log"))):
        logging.getLogger("library").warning("%d kernels", "no")

    assert capsys.readouterr().err == "warning: library: %d kernels ('no',)\n"
    assert "WARNING library: %d kernels ('no',)" in (tmp_path / "log").read_text()


def test_quiet_and_verbose_need_a_file(tmp_path):
    """Then stderr is quiet and the file has all lines."""
    assert "--log-file" in motivnet("models", "-q", "-v", code=2).stderr
    assert motivnet("models", "-q", "-v", "--log-file", tmp_path / "log").stderr == ""


FIRST_WORDS = {
    "annotate": "annotate {photos} --model expression-net --out {tmp}/p.parquet",
    "evaluate": "evaluate --dataset folder --root {photos} --model expression-net --out {tmp}/r",
    "compare models": "compare models expression-net expression-net --images {photos} --out {tmp}/m",
    "compare data": "compare data {photos} {photos} --model expression-net --out {tmp}/d",
    "compare predictions": "compare predictions {out} {out} --dataset folder --root {photos}",
    "train": "train --from {out} --labels {photos} --out {tmp}/head",
    "train --student": "train --student expression-net --targets {out} --out {tmp}/student",
    "train --dataset": "train --dataset folder --root {photos} --init expression-net --out {tmp}/network",
    "export model": "export model expression-net --to safetensors --out {tmp}/m.safetensors",
    "bench": "bench {photos} --model expression-net",
    "doctor": "doctor",
    "verify": "verify {out} --sample 1",
}
"""Commands that import torch, which takes seconds."""


@pytest.mark.thorough
def test_a_word_comes_before_torch_is_imported(output, tmp_path):
    """Into a pipe a line at once: here the process ends as soon as it asks for torch."""
    hook = "import os, sys\nsys.addaudithook(lambda event, on: event == 'import' and on[0] == 'torch' and os._exit(99))"
    env = {**os.environ, **at_start(tmp_path, hook)}
    said = {}
    with contextlib.ExitStack() as processes:
        for words, call in FIRST_WORDS.items():
            arguments = call.format(photos=output.parent / "photos", out=output, tmp=tmp_path).split()
            process = [sys.executable, "-m", "motivnet_cli", *arguments]
            said[words] = processes.enter_context(subprocess.Popen(process, env=env, stderr=subprocess.PIPE, text=True))
        said = {words: (process.communicate()[1], process.returncode) for words, process in said.items()}

    for words, (text, code) in said.items():
        assert code == 99, (words, text)
        assert f"\n{words.split()[0]}: " in f"\n{text}", (words, text)


def test_what_a_worker_logs_keeps_its_fields(caplog):
    """A log in JSON names the input and the type of an error, whoever met it."""
    fields = {"input": "a.jpg", "path": Path("a"), "faces": 3}
    record = logging.makeLogRecord({"msg": "%s: failed", "args": ("a.jpg",), "levelno": 30, "fields": fields})
    line = decode_message(encode_message(Log.of(record)).encode())
    line.relay(logging.getLogger("motivnet_cli"), "cuda:1")
    [relayed] = caplog.records

    assert relayed.getMessage() == "cuda:1: a.jpg: failed"
    assert relayed.fields == {"worker": "cuda:1", "input": "a.jpg", "path": "a", "faces": 3}
