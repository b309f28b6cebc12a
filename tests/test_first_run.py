"""Commands without their weights: a person is asked once, a script says --accept-terms, and the command goes on."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from motivnet_cli import catalogue
from motivnet_cli.cli import app, missing_weights, weights
from motivnet_cli.output.read import read_faces, read_record
from motivnet_cli.weights import published
from motivnet_cli.weights.store import Store
from tests.pictures import SAMPLE_DATA
from tests.runs import talk_of
from tests.server import Answer, FileServer
from tests.terminals import Dialogue

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
CONTENT = TINY.read_bytes()
SIZE = len(CONTENT)
PHOTO = SAMPLE_DATA / "astronaut.png"
TERMS = catalogue.CARDS["motivnet-1b"].terms
WAYS_ON = ("motivnet download-weights motivnet-1b", "--accept-terms", "--model expression-net")
QUESTION = "accept these terms, and go on? [y/N] "
START = """
import sys
from tests.test_first_run import small_motivnet
small_motivnet(sys.argv.pop(1))
from motivnet_cli.cli import main
main()
"""
"""The command line, for which a network of a few thousand numbers is MotivNet."""


def small_motivnet(url):
    catalogue.CARDS["motivnet-1b"] = card_at(url)
    del published._PUBLISHED["motivnet-1b"]


def card_at(url, size=SIZE):
    return dataclasses.replace(catalogue.CARDS["motivnet-1b"], url=url, download_bytes=size)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in ("MOTIVNET_HOME", "MOTIVNET_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SLURM_JOB_ID", "SGE_TASK_ID", "PBS_JOBID", "LSB_JOBID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def server(monkeypatch):
    """Has the weights of motivnet-1b, for commands in this process."""
    with FileServer(Answer(CONTENT)) as server:
        monkeypatch.setitem(catalogue.CARDS, "motivnet-1b", card_at(server.url))
        monkeypatch.delitem(published._PUBLISHED, "motivnet-1b")
        yield server


def run(*arguments, store, stdin=None):
    """A command in this process."""
    return CliRunner().invoke(app, [*map(str, arguments), "--store", str(store.root)], input=stdin)


def annotating(url, store, out, *options):
    command = [sys.executable, "-c", START, url, "annotate", PHOTO, "--store", store.root, "--out", out, *options]
    return list(map(str, command))


# ---- at a terminal, in processes of their own -------------------------------------------------------------


@pytest.mark.thorough
def test_a_person_says_yes_stops_the_download_and_goes_on_later(store, tmp_path):
    """What is missing is said before the one question; Ctrl-C keeps what came; the next yes ends in predictions."""
    out = tmp_path / "preds.parquet"
    half = Answer(CONTENT, stall_after=len(CONTENT) // 2)
    with FileServer(half, Answer(CONTENT)) as server:
        first = Dialogue(annotating(server.url, store, out, "--json"))
        first.wait_for(QUESTION)
        asked_before = len(server.requests)
        first.type("y\n")
        first.wait_for("MB/s")
        first.type("\x03")
        stopped = first.end()
        second = Dialogue(annotating(server.url, store, out, "--json"))
        second.wait_for(QUESTION)
        second.type("yes\n")
        code, stdout = second.end()

    assert asked_before == 0
    for said in (server.url, str(store.root / "motivnet-1b"), TERMS, "size   3.9 MB", "7.9 MB needed", " free"):
        assert said in first.shown, said
    assert stopped == (130, "")
    assert "run the same command again to continue" in first.shown
    assert "3.9 MB, of which 2.0 MB are here" in second.shown
    assert server.ranges() == [None, f"bytes={len(CONTENT) // 2}-"]
    assert code == 0, second.shown
    assert json.loads(stdout)["faces"] == len(read_faces(out)) == 1
    assert second.shown.count("[y/N]") == 1
    assert store.find("motivnet-1b").terms_accepted.endswith(", at a terminal")
    assert read_record(out)["terms"] == TERMS


@pytest.mark.thorough
def test_ctrl_c_at_the_question(store, tmp_path):
    """One is enough: nothing was downloaded, and nothing is left behind."""
    with FileServer(Answer(CONTENT)) as server:
        dialogue = Dialogue(annotating(server.url, store, tmp_path / "preds.parquet"))
        dialogue.wait_for(QUESTION)
        dialogue.type("\x03")
        ended = dialogue.end()

    assert ended == (130, "")
    assert server.requests == []
    assert not store.root.exists()


# ---- scripts and batch jobs -------------------------------------------------------------------------------


@pytest.mark.slow
def test_tasks_of_an_array_download_once(store, tmp_path):
    """Of two tasks with --accept-terms one downloads and the other waits for it; both do their share."""
    waits = threading.Event()
    with FileServer(Answer(CONTENT, gate=waits)) as server:
        shares = [["--shard", f"{number}/2", "--accept-terms"] for number in range(2)]
        commands = [annotating(server.url, store, tmp_path / "preds.parquet", *share) for share in shares]
        tasks = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        talk = talk_of(tasks, awaited="waiting for it", heard=waits)

    assert [task.returncode for task in tasks] == [0, 0], talk
    assert len(server.requests) == 1
    assert len(read_faces(tmp_path / "preds.parquet")) == 1


def test_a_script_accepts_the_terms_by_an_option(store, server, tmp_path):
    """Without a terminal: nothing is asked, stdout holds the data alone, and the record says how they were accepted."""
    ran = run("annotate", PHOTO, "--out", "-", "--accept-terms", store=store)

    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["input"] == str(PHOTO)
    assert TERMS in ran.stderr
    assert "[y/N]" not in ran.stderr
    accepted = json.loads((store.root / "motivnet-1b" / "model.json").read_text())["terms_accepted"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00, by --accept-terms", accepted)


COMMANDS = {
    "annotate": ["annotate", PHOTO, "--out", "preds.parquet"],
    "evaluate": ["evaluate", "--dataset", "folder", "--root", "set", "--out", "evaluation"],
    "bench": ["bench", PHOTO],
    "compare models": ["compare", "models", "expression-net", "motivnet-1b", "--images", SAMPLE_DATA],
    "compare data": ["compare", "data", SAMPLE_DATA, SAMPLE_DATA],
    "export model": ["export", "model", "--to", "onnx", "--out", "network.onnx"],
    "train": ["train", "--dataset", "folder", "--root", "set", "--init", "motivnet-1b", "--out", "mine"],
}


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """The current folder, with a labelled set of two classes in it."""
    monkeypatch.chdir(tmp_path)
    for emotion in ("happiness", "sadness"):
        Path("set", emotion).mkdir(parents=True)
        shutil.copy(PHOTO, f"set/{emotion}/face.png")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if name == "train" else ()) for name in COMMANDS]
)
def test_every_command_that_needs_a_network_brings_it(store, server, in_folder, name):
    """Without the option each ends with the ways on, and asks no server; with it, each turns to the server."""
    if name == "train":
        pytest.importorskip("lightning")
    if name == "export model":
        pytest.importorskip("onnxscript")
    server.on("/file", Answer(b"gone", 404))
    refused = run(*COMMANDS[name], store=store)
    asked_without = len(server.requests)
    accepted = run(*COMMANDS[name], "--accept-terms", store=store)

    assert (refused.exit_code, refused.stdout, asked_without) == (2, "", 0)
    assert all(way in refused.stderr for way in WAYS_ON[:2])
    assert accepted.exit_code == 1, accepted.stderr
    assert "404" in accepted.stderr
    assert len(server.requests) == 1


# ---- who is asked, and when -------------------------------------------------------------------------------


@pytest.fixture
def at_terminal(monkeypatch):
    for module in (missing_weights, weights):
        monkeypatch.setattr(module, "is_terminal", lambda: True)


@pytest.mark.parametrize("answer", ["", "\n", "no\n", "yesterday\n"])
def test_no_is_what_is_no_yes(store, server, at_terminal, tmp_path, answer):
    """The end of input, Enter and any other word: asked once, nothing is downloaded, and the ways on are named."""
    ran = run("annotate", PHOTO, "--out", tmp_path / "preds.parquet", store=store, stdin=answer)

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.count(QUESTION) == 1
    assert all(way in ran.stderr for way in WAYS_ON)
    assert server.requests == []
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["--quiet"], {}),
        (["--shard", "0/2"], {}),
        ([], {"MOTIVNET_OFFLINE": "1"}),
        ([], {"SLURM_JOB_ID": "7"}),
        ([], {"PBS_JOBID": "7"}),
    ],
    ids=str,
)
def test_nobody_is_asked(store, server, at_terminal, monkeypatch, tmp_path, options, variables):
    """Not for a quiet command, a share, offline, or within a batch job: it ends with the ways on, as in a script."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = run("annotate", PHOTO, "--out", tmp_path / "preds.parquet", *options, store=store, stdin="y\n")

    assert ran.exit_code == 2
    assert "[y/N]" not in ran.stderr
    assert all(way in ran.stderr for way in WAYS_ON)
    assert server.requests == []


def test_other_mistakes_come_first(store, server, at_terminal, tmp_path):
    """Inputs that do not exist are said before anyone is asked for gigabytes."""
    ran = run("annotate", tmp_path / "nowhere.jpg", "--out", tmp_path / "preds.parquet", store=store, stdin="y\n")

    assert ran.exit_code == 2
    assert "[y/N]" not in ran.stderr
    assert "are not here" not in ran.stderr


def test_a_store_that_cannot_hold_them_is_said_first(store, server, at_terminal, tmp_path, monkeypatch):
    """A folder that cannot be made, a disk too full, the hub's client missing: said without a question."""
    (tmp_path / "file").write_text("no folder")
    command = ("annotate", PHOTO, "--out", tmp_path / "preds.parquet")
    unwritable = run(*command, store=Store(tmp_path / "file" / "store"), stdin="y\n")
    monkeypatch.setitem(catalogue.CARDS, "motivnet-1b", card_at(server.url, 10**15))
    full = run(*command, store=store, stdin="y\n")
    full_by_option = run(*command, "--accept-terms", store=store)
    monkeypatch.setitem(catalogue.CARDS, "motivnet-1b", card_at("hf://owner/repo/file"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    no_client = run(*command, store=store, stdin="y\n")

    assert "cannot be written" in unwritable.stderr
    assert "need about 2000000.0 GB" in full.stderr
    assert "need about 2000000.0 GB" in full_by_option.stderr
    assert "motivnet-cli[hub]" in no_client.stderr
    for ran in (unwritable, full, full_by_option, no_client):
        assert ran.exit_code == 1
        assert "[y/N]" not in ran.stderr
    assert server.requests == []


def test_room_that_is_needed(store):
    """The rest of the download and the weights made of it; what lies there of either is not needed twice."""
    size = catalogue.CARDS["motivnet-1b"].download_bytes
    plan = store.plan("motivnet-1b")
    downloads, made = store.root / ".downloads", store.root / ".incoming" / "motivnet-1b"
    downloads.mkdir(parents=True)
    made.mkdir(parents=True)
    (downloads / "motivnet-1b.part").write_bytes(bytes(1000))
    (downloads / "motivnet-1b.part.json").write_text("{}")
    begun = store.plan("motivnet-1b")
    (made / "weights.safetensors").write_bytes(bytes(10))

    assert (plan.needed_bytes, plan.present_bytes) == (2 * size, 0)
    assert (begun.needed_bytes, begun.present_bytes) == (2 * size - 1000, 1000)
    assert store.plan("motivnet-1b").needed_bytes == 2 * size - 1010
    assert store.plan("mine", file=TINY).needed_bytes == len(CONTENT)
    assert store.plan("mine", url="http://127.0.0.1:1/f").needed_bytes is None


def test_the_store_is_asked_at_a_terminal_too(store, at_terminal):
    """`download-weights` asks the same question; the end of input is a no."""
    refused = run("download-weights", "mine", "--from-file", TINY, store=store, stdin="")
    accepted = run("download-weights", "mine", "--from-file", TINY, store=store, stdin="Y\n")

    assert (refused.exit_code, accepted.exit_code) == (2, 0)
    assert "the terms were not accepted" in refused.stderr
    assert QUESTION in accepted.stderr
    assert accepted.stdout == ""
    assert store.find("mine").terms_accepted.endswith(", at a terminal")
