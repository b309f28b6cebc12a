"""The model store and `download-weights`: a whole verified model, or a clear error and no model."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from motivnet_cli.catalogue import CARDS
from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError, FetchError, WeightsError
from motivnet_cli.output.read import read_faces, read_record
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.networks import load_checkpoint
from motivnet_cli.weights.store import Store
from tests.pictures import SAMPLE_DATA
from tests.runs import talk_of
from tests.server import Answer, FileServer

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
CONTENT = TINY.read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in ("MOTIVNET_HOME", "MOTIVNET_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def download(*arguments, store):
    """`motivnet download-weights` in this process."""
    command = ["download-weights", *map(str, arguments), "--store", str(store.root)]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def entries(store):
    """What lies in the store, but for locks and kept hashes."""
    found = (path.relative_to(store.root) for path in store.root.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.suffix != ".lock" and path.parts[0] != ".pins")


WHOLE = ["tiny/model.json", "tiny/weights.safetensors"]


def test_download_becomes_a_model_that_computes_the_same(store):
    """From a URL to a stored model whose outputs equal those of the file itself."""
    with FileServer(Answer(CONTENT)) as server:
        model = store.install("tiny", url=server.url)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 128, 96), dtype=np.uint8))
    stored, direct = load_model("tiny", store=str(store.root)).network(pixels), load_checkpoint(TINY)(pixels)

    assert entries(store) == WHOLE
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(stored, direct, strict=True))
    assert (model.sha256, model.architecture) == (SHA256, "motivnet")
    assert model.stored_sha256 == hashlib.sha256(Path(model.path).read_bytes()).hexdigest()
    assert model.num_parameters == sum(p.numel() for p in load_checkpoint(TINY).parameters())


def test_record_survives(store):
    """What `install` returned is what is found later, and what is listed."""
    model = store.install("tiny", file=TINY)

    assert store.find("tiny") == model
    assert store.models() == [model]
    assert Path(model.path).parent == store.root / "tiny"


def test_file_by_hand_is_read_not_moved(store):
    """--from-file leaves the user's file where it is, and keeps its name but not its folder as the source."""
    model = store.install("tiny", file=TINY)

    assert TINY.read_bytes() == CONTENT
    assert model.source == TINY.name


def test_present_model_is_not_downloaded_again(store):
    """A second install asks nobody."""
    first = store.install("tiny", file=TINY)

    assert store.install("tiny", url="http://127.0.0.1:1/never") == first


def test_pinned_hash(store):
    """A wrong --sha256 stores nothing, from a URL as from a file; the right one is accepted in capitals too."""
    with FileServer(Answer(CONTENT)) as server:
        with pytest.raises(FetchError, match=SHA256):
            store.install("tiny", url=server.url, sha256="0" * 64)
        with pytest.raises(FetchError, match=SHA256):
            store.install("tiny", file=TINY, sha256="0" * 64)
        assert entries(store) == []
        store.install("tiny", url=server.url, sha256=SHA256.upper())

    assert entries(store) == WHOLE


def test_hash_of_the_first_download_is_kept(store, tmp_path):
    """The same address later giving another file is refused with both hashes, until --sha256 names the new one."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(TINY)
    tensors["decoder.decoder.duplicate_pooling_bias"] += 1
    save_file(tensors, tmp_path / "other.safetensors", metadata={"heads": "4", "height": "128", "width": "96"})
    other = (tmp_path / "other.safetensors").read_bytes()
    with FileServer(Answer(CONTENT), Answer(other, etag='"two"')) as server:
        store.install("tiny", url=server.url)
        store.remove("tiny")
        with pytest.raises(FetchError, match=f"{SHA256}.*--sha256"):
            store.install("tiny", url=server.url)
        assert entries(store) == []
        store.install("tiny", url=server.url, sha256=hashlib.sha256(other).hexdigest())

    assert store.find("tiny").sha256 == hashlib.sha256(other).hexdigest()


@pytest.mark.parametrize(
    ("content", "content_type", "said"),
    [
        (b"<!DOCTYPE html><title>Sign in to your account</title>", "text/html", "--from-file"),
        (
            b"\x93NUMPY" + bytes(4000),
            "application/octet-stream",
            "unknown kind",
        ),
        (CONTENT[:-1000], "application/octet-stream", "cut short"),
    ],
    ids=["page", "other file", "truncated at the source"],
)
def test_what_is_no_checkpoint_leaves_no_model(store, content, content_type, said):
    """A page, another file, a file that is cut short at its source: an error that says so, and nothing stored."""
    with (
        FileServer(Answer(content, content_type=content_type)) as server,
        pytest.raises((FetchError, WeightsError), match=said),
    ):
        store.install("tiny", url=server.url)

    assert entries(store) == []
    with FileServer(Answer(CONTENT)) as server:
        store.install("tiny", url=server.url)
    assert entries(store) == WHOLE


class Malicious:
    """Unpickled by Python, it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("way", ["from-file", "weights", "url"])
def test_malicious_pickle_is_refused_and_does_nothing(store, tmp_path, way):
    """A checkpoint that would run code is refused wherever it is given, and its code does not run."""
    bad, proof = tmp_path / "bad.pth", tmp_path / "proof"
    torch.save({"pose_encoder.pos_embed": Malicious(proof)}, bad)
    if way == "weights":
        arguments = ["annotate", str(SAMPLE_DATA), "--weights", str(bad), "--out", str(tmp_path / "p.parquet")]
        run = CliRunner().invoke(app, arguments, catch_exceptions=False)
    else:
        source = ["--from-file", bad] if way == "from-file" else ["--url", bad.as_uri()]
        run = download("tiny", *source, "--accept-terms", store=store)

    assert run.exit_code == 2
    assert "nothing of it ran" in run.stderr
    assert not proof.exists()
    assert not store.root.exists() or entries(store) == []
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(bad, weights_only=True)


INSTALL = """
import sys
from motivnet_cli.weights.store import Store
Store(sys.argv[1]).install("tiny", url=sys.argv[2])
"""


def installing(store, url, before=""):
    return subprocess.Popen(
        [sys.executable, "-c", before + INSTALL, str(store.root), url], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_killed_at_random_moments(store):
    """Killed anywhere in download and conversion, the next start ends in a whole model; never a half one."""
    rng = random.Random(3)
    kills = 0
    with FileServer(Answer(CONTENT, seconds_per_chunk=0.01)) as server:  # the whole takes 2.4 s
        while store.find("tiny") is None:
            asked = len(server.requests)
            process = installing(store, server.url)
            if kills < 3:  # in the download
                while len(server.requests) == asked and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 0.7))
            else:  # anywhere; later starts have less to download: let them get further
                time.sleep(rng.uniform(0.5, 3.0) + kills / 4)
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
        downloads = len(server.requests)

    assert kills >= 3
    assert downloads >= 3
    assert store.verify("tiny").sha256 == SHA256
    assert entries(store) == WHOLE


def test_two_processes_at_once(store):
    """Two installs of one model: both succeed, one model, downloaded once."""
    waits = threading.Event()
    with FileServer(Answer(CONTENT, gate=waits)) as server:
        processes = [installing(store, server.url) for _ in range(2)]
        talk = talk_of(processes, awaited="waiting for it", heard=waits)
        downloads = len(server.requests)

    assert [process.returncode for process in processes] == [0, 0]
    assert sum("waiting for it" in each for each in talk) == 1
    assert downloads == 1
    assert store.verify("tiny").sha256 == SHA256


@pytest.mark.parametrize("limit", [100_000, len(CONTENT) + 200], ids=["in the download", "in the conversion"])
def test_disk_full(store, tmp_path, limit):
    """A file that cannot grow, as on a full disk: an error that says so, no model; with space, it succeeds."""
    source = CONTENT
    if limit > len(CONTENT):
        # A half-precision source is stored at twice its size: the download fits and the conversion does not.
        from safetensors.torch import load_file, save_file

        halves = {name: tensor.half() for name, tensor in load_file(TINY).items()}
        save_file(halves, tmp_path / "half.safetensors", metadata={"heads": "4", "height": "128", "width": "96"})
        source, limit = (tmp_path / "half.safetensors").read_bytes(), len(CONTENT) * 3 // 4
    full = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    )
    with FileServer(Answer(source)) as server:
        process = installing(store, server.url, before=full)
        talk = process.communicate(timeout=300)[1]
        assert process.returncode == 1
        assert "FetchError" in talk or "OSError" in talk
        assert store.find("tiny") is None
        assert not any(path.startswith(("tiny", ".incoming")) for path in entries(store))
        store.install("tiny", url=server.url)

    assert entries(store) == WHOLE


def test_damaged_store_is_noticed(store):
    """A file of another size is noticed at once, changed bytes by verify; both say what to do."""
    model = store.install("tiny", file=TINY)
    content = bytearray(Path(model.path).read_bytes())
    content[-1] ^= 1
    Path(model.path).write_bytes(content)
    with pytest.raises(WeightsError, match="--remove"):
        store.verify("tiny")
    Path(model.path).write_bytes(content[:-1])
    with pytest.raises(WeightsError, match="--remove"):
        store.find("tiny")

    store.remove("tiny")
    assert store.find("tiny") is None


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "x" * 65, "expression-net"])
def test_names_that_cannot_be_used(store, name):
    """A name never leads out of the store, and the embedded model is not replaced."""
    says = "is inside the package" if name == "expression-net" else f"a model's name is made of .* got {name!r}"
    with pytest.raises(ConfigError, match=says):
        store.install(name, file=TINY)
    assert not store.root.exists()


# ---- the command ------------------------------------------------------------------------------------------


def test_command_stores_and_annotate_finds(store, tmp_path):
    """download-weights under a name of one's own, then annotate --model by that name; the terms travel along."""
    with FileServer(Answer(CONTENT)) as server:
        run = download("mine", "--url", server.url, "--accept-terms", "--json", store=store)
    record = json.loads(run.stdout)
    out = tmp_path / "p.parquet"
    arguments = ["annotate", str(SAMPLE_DATA), "--model", "mine", "--store", str(store.root), "--out", str(out)]
    annotated = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert run.exit_code == 0, run.stderr
    assert "AffectNet (research only)" in run.stderr
    assert record["sha256"] == SHA256
    assert annotated.exit_code == 0, annotated.stderr
    assert read_faces(out)["embedding"].dtype.shape == (96,)
    assert read_record(out)["weights_sha256"] == SHA256
    assert "AffectNet" in read_record(out)["terms"]


def test_encoder_alone_gives_embeddings_without_emotions(store, tmp_path):
    """A stored encoder writes no emotion columns, and under its own terms."""
    from safetensors.torch import load_file, save_file

    encoder = {
        name.replace("pose_encoder.", "backbone."): tensor
        for name, tensor in load_file(TINY).items()
        if name.startswith("pose_encoder.")
    }
    save_file(encoder, tmp_path / "e.safetensors", metadata={"heads": "4", "height": "128", "width": "96"})
    download("encoder", "--from-file", tmp_path / "e.safetensors", "--accept-terms", store=store)
    out = tmp_path / "p.parquet"
    arguments = ["annotate", str(SAMPLE_DATA), "--model", "encoder", "--store", str(store.root), "--out", str(out)]
    run = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    faces = read_faces(out)

    assert run.exit_code == 0, run.stderr
    assert json.loads(run.stdout)["emotions"] == {}
    assert not {"emotion", "confidence", "neutral"} & set(faces.columns)
    assert faces["embedding"].dtype.shape == (96,)
    assert "CC BY-NC 4.0" in read_record(out)["terms"]


def test_terms_are_asked_for(store):
    """Without a terminal and without --accept-terms nothing is downloaded, and the terms are said."""
    run = download("tiny", "--from-file", TINY, store=store)

    assert run.exit_code == 2
    assert "Whoever gave you this checkpoint did not state its terms here" in run.stderr
    assert "--accept-terms" in run.stderr
    assert not store.root.exists()


def test_dry_run_does_nothing(store):
    """--dry-run says source, size and place of the default model, and touches nothing."""
    run = download("--dry-run", "--json", store=store)
    plan = json.loads(run.stdout)

    assert run.exit_code == 0
    assert plan["name"] == "motivnet-1b"
    assert "sharepoint.com" in plan["source"]
    assert "H7vRd4" not in run.stdout + run.stderr
    assert plan["download_bytes"] > 4_000_000_000
    assert not store.root.exists()


def test_list_verify_remove(store):
    """--list names what is known and what is here; --verify re-hashes; --remove takes out."""
    download("mine", "--from-file", TINY, "--accept-terms", store=store)
    listed = {row["name"]: row for row in json.loads(download("--list", "--json", store=store).stdout)}

    assert set(listed) == {*CARDS, "mine"}
    assert listed["mine"]["path"] == str(store.root / "mine" / "weights.safetensors")
    assert not listed["motivnet-1b"]["here"]
    assert re.search(r"^mine: [1-9][\d.]* [kM]?B", download("--list", store=store).stdout, flags=re.MULTILINE)
    assert "unchanged" in download("mine", "--verify", store=store).stderr
    assert download("mine", "--remove", store=store).exit_code == 0
    assert download("mine", "--verify", store=store).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["mine"], 2, "no source is known for 'mine'"),
        (["mine", "--url", "http://a/b", "--from-file", "c"], 2, "only one of --url, --from-file"),
        (["mine", "--from-file", "nowhere.pth", "--accept-terms"], 2, "nowhere.pth"),
        (["mine", "--url", "http://127.0.0.1:1/f", "--accept-terms"], 1, "--from-file"),
        (["mine", "--url", "http://127.0.0.1:1/f", "--accept-terms", "--sha256", "abc"], 2, "abc"),
        (["mine", "--remove"], 2, "no model 'mine'"),
        (["expression-net"], 2, "inside the package"),
    ],
)
def test_mistakes_are_said(store, arguments, code, said):
    """Each mistake ends with its exit code and a sentence that says what to do."""
    run = download(*arguments, store=store)

    assert run.exit_code == code
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_offline_is_an_error_at_once(store, monkeypatch):
    """MOTIVNET_OFFLINE=1 asks no server, and says how to bring the file by hand."""
    monkeypatch.setenv("MOTIVNET_OFFLINE", "1")
    with FileServer(Answer(CONTENT)) as server:
        run = download("tiny", "--url", server.url, "--accept-terms", store=store)
        asked = len(server.requests)

    assert (run.exit_code, asked) == (1, 0)
    assert "--from-file" in run.stderr


def test_home_from_the_environment(tmp_path, monkeypatch):
    """MOTIVNET_HOME names the store for the command and for Python."""
    monkeypatch.setenv("MOTIVNET_HOME", str(tmp_path / "home"))
    arguments = ["download-weights", "mine", "--from-file", str(TINY), "--accept-terms"]
    CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert Store().find("mine").path == str(tmp_path / "home" / "mine" / "weights.safetensors")
    assert load_model("mine").weights_sha256 == SHA256


def test_missing_weights_name_both_commands(store, tmp_path):
    """annotate without the weights exits 2 and names the two commands that help."""
    arguments = ["annotate", str(SAMPLE_DATA), "--store", str(store.root), "--out", str(tmp_path / "p.parquet")]
    run = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert run.exit_code == 2
    assert "motivnet download-weights motivnet-1b" in run.stderr
    assert "--weights" in run.stderr


def test_no_credential_is_written(store):
    """User, password and tokens of an address appear in no output, record or file of the store."""
    with FileServer(Answer(CONTENT)) as server:
        url = server.url.replace("http://", "http://user:sesame@") + "?token=opensesame"
        run = download("tiny", "--url", url, "--accept-terms", "--json", store=store)
    written = b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file())

    assert run.exit_code == 0, run.stderr
    assert "sesame" not in run.stdout + run.stderr
    assert b"sesame" not in written
