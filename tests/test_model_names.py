"""A name of the catalogue stands for the published network alone, and a checkpoint file goes by its own name."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from motivnet_cli.catalogue import CARDS, recorded_name
from motivnet_cli.cli import app
from motivnet_cli.config import FaceConfig, InputConfig, ModelConfig, OutputConfig, RunConfig, ScaleConfig
from motivnet_cli.errors import ConfigError, OutputConflictError, WeightsError
from motivnet_cli.model import MotivNet, MotivNetSizes, SapiensEmbedder, SapiensSizes
from motivnet_cli.output.read import read_faces, read_record
from motivnet_cli.records import EMOTIONS
from motivnet_cli.report.predictions import write_page
from motivnet_cli.run import annotate
from motivnet_cli.weights.load import load_model, model_card
from motivnet_cli.weights.networks import checkpoint_name, outline
from motivnet_cli.weights.store import RECORD_FILE, WEIGHTS_FILE, Store, StoredModel
from tests.pictures import SAMPLE_DATA

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
NAMES = ["motivnet-1b", "sapiens-1b"]
WAYS = ["weights", "store", "install"]


def sparse(path, sizes, **metadata):
    """A checkpoint of this size under the published names: its header is whole, and its numbers are a hole of zeros."""
    with torch.device("meta"):
        has_head = isinstance(sizes, MotivNetSizes)
        names = (*EMOTIONS, "contempt")[: sizes.num_classes] if has_head else ()
        network = MotivNet(sizes, classes=names) if has_head else SapiensEmbedder(sizes)
    header, end = {"__metadata__": metadata}, 0
    for name, tensor in network.state_dict().items():
        start, end = end, end + 4 * math.prod(tensor.shape)
        header[checkpoint_name(name)] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    return path


PUBLISHED = {"motivnet-1b": MotivNetSizes(), "sapiens-1b": SapiensSizes()}
OTHERS = {
    "golden": ("motivnet-1b", lambda _: TINY, "width is 96, not 1536, depth is 3, not 40"),
    "eight classes": (
        "motivnet-1b",
        lambda path: sparse(path, MotivNetSizes(num_classes=8)),
        "num_classes is 8, not 7",
    ),
    "a narrower head": (
        "motivnet-1b",
        lambda path: sparse(path, MotivNetSizes(decoder_width=1024)),
        "decoder_width is 1024, not 1152",
    ),
    "other heads": ("motivnet-1b", lambda path: sparse(path, MotivNetSizes(), decoder_heads="4"), "decoder_heads is 4"),
    "other names": (
        "motivnet-1b",
        lambda path: sparse(path, MotivNetSizes(), classes=",".join(EMOTIONS[::-1])),
        "classes is anger/disgust",
    ),
    "no head": ("motivnet-1b", lambda path: sparse(path, SapiensSizes()), "kind is a Sapiens encoder alone, not a Mot"),
    "a block less": ("sapiens-1b", lambda path: sparse(path, SapiensSizes(depth=39)), "depth is 39, not 40"),
    "0.3B": (
        "sapiens-1b",
        lambda path: sparse(path, SapiensSizes(width=1024, depth=24, heads=16, mlp=4096)),
        "width is 1024, not 1536",
    ),
    "another input": (
        "sapiens-1b",
        lambda path: sparse(path, SapiensSizes(grid_height=48, grid_width=64), height="768", width="1024"),
        "grid_height is 48, not 64",
    ),
}
"""Networks that the catalogue's name does not stand for, and what is said of them."""


@pytest.fixture
def unread(monkeypatch):
    """No file is read from end to end: a hole of 4.6 GB takes long to hash, and longer to copy."""

    def refuse(*_, **__):
        raise OSError("the conversion begins")

    monkeypatch.setattr("motivnet_cli.weights.file_hash.sha256_of", lambda path: "0" * 64)
    monkeypatch.setattr("motivnet_cli.weights.load.read_ahead", lambda path: None)
    monkeypatch.setattr("motivnet_cli.weights.networks.write_safetensors", refuse)
    monkeypatch.setattr(Store, "_check_free_space", lambda self, file: None)


def stored(root, name, file, architecture):
    """A store that holds this file under a name, as an earlier motivnet could write it."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / WEIGHTS_FILE).symlink_to(file)
    model = StoredModel(
        name=name, architecture=architecture, source="a.pth", sha256="1" * 64, stored_sha256="2" * 64,
        size_bytes=file.stat().st_size, num_tensors=1, num_parameters=1, terms="", date="2026-01-01", tool="motivnet 0",
    )  # fmt: skip
    record = dataclasses.asdict(model)
    del record["path"]
    (folder / RECORD_FILE).write_text(json.dumps(record))
    return str(root)


def give(way, name, file, tmp_path):
    """Have a file stand for a model of the catalogue in one of the ways there are."""
    if way == "weights":
        return load_model(name, weights=str(file))
    if way == "store":
        return load_model(name, store=stored(tmp_path / "store", name, file, CARDS[name].architecture))
    return Store(tmp_path / "store").install(name, file=file)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_the_published_network_is_taken(tmp_path, unread, way, name):
    """From the store it has the catalogue's name, as a file its own; and it can be stored."""
    file = sparse(tmp_path / "full.safetensors", PUBLISHED[name])

    if way == "install":
        with pytest.raises(OSError, match="the conversion begins"):
            give(way, name, file, tmp_path)
        return
    model = give(way, name, file, tmp_path)

    assert model.network.sizes == PUBLISHED[name]
    assert (model.card is CARDS[name]) is (way == "store")
    assert model.card.name == ("full.safetensors" if way == "weights" else name)
    assert model.card.architecture == CARDS[name].architecture


@pytest.mark.parametrize(
    ("other", "way"),
    [*((other, "weights") for other in OTHERS), *((other, way) for other in ("no head", "0.3B") for way in WAYS[1:])],
)
def test_another_network_is_refused_under_the_catalogues_name(tmp_path, unread, way, other):
    """What it is, what was expected and what to do are said, and nothing is stored."""
    name, make, says = OTHERS[other]
    file = make(tmp_path / "other.safetensors")

    with pytest.raises(WeightsError, match=f"holds another network than {name}: .*{says}") as refused:
        give(way, name, file, tmp_path)

    remedies = {"weights": "without --model", "store": f"{name} --remove", "install": "download-weights NAME"}
    assert remedies[way] in str(refused.value)
    assert way != "install" or not list(Store(tmp_path / "store").root.glob("[!.]*"))


def test_a_whole_motivnet_is_not_stored_as_its_encoder(tmp_path, unread):
    """The encoder is taken of a file that is given for it, but the store keeps what the file holds."""
    file = sparse(tmp_path / "MotivNet.safetensors", MotivNetSizes())

    assert load_model("sapiens-1b", weights=str(file)).classes == ()
    with pytest.raises(WeightsError, match="kind is a MotivNet, not a Sapiens encoder alone"):
        Store(tmp_path / "store").install("sapiens-1b", file=file)


def test_a_file_alone_tells_its_architecture(tmp_path):
    """With an emotion head it is a MotivNet, without one an encoder; the card says so before the numbers are read."""
    encoder = {name: tensor for name, tensor in load_file(TINY).items() if name.startswith("pose_encoder.")}
    alone = tmp_path / "encoder.safetensors"
    save_file(encoder, alone, metadata={"heads": "4", "height": "128", "width": "96"})

    for file, architecture, classes in ((TINY, "motivnet", EMOTIONS), (alone, "sapiens", ())):
        model = load_model(weights=str(file))
        assert model.card == model_card(weights=str(file))
        assert (model.card.name, model.card.architecture, model.classes) == (file.name, architecture, classes)
        assert "AffectNet" in model.card.terms
        assert f"{sum(tensor.numel() for tensor in model.network.parameters()):,}" in model.card.title


@pytest.mark.parametrize(
    ("width", "heads"), [(1024, 16), (1280, 16), (1536, 24), (1920, 32), (64, 1)], ids=lambda value: str(value)
)
def test_the_published_encoders_have_their_heads(tmp_path, width, heads):
    """No tensor shows how many there are, and 0.6B and 2B are not 64 numbers a head."""
    sizes = SapiensSizes(width=width, depth=1, heads=heads, mlp=8, grid_height=4, grid_width=3)

    assert outline(sparse(tmp_path / "encoder.safetensors", sizes)).sizes == sizes


@pytest.mark.parametrize("name", ["mine", "expression-net"])
def test_a_model_with_its_own_weights_takes_no_others(tmp_path, name):
    """Two networks are named, and which is meant is not guessed."""
    Store(tmp_path / "store").install("mine", file=TINY)

    for load in (load_model, model_card):
        with pytest.raises(ConfigError, match=r"takes no others, got .*give --model or --weights, not both"):
            load(name, weights=str(TINY), store=str(tmp_path / "store"))


@pytest.fixture
def hashings(monkeypatch):
    """The files that were hashed in this process, all to one hash that is not theirs."""
    found = []

    def sha256_of(path):
        found.append(path)
        return "f" * 64

    monkeypatch.setattr("motivnet_cli.weights.file_hash.sha256_of", sha256_of)
    return found


def copy_of_tiny(path):
    path.write_bytes(TINY.read_bytes())
    return path


def replaced(path):
    """The same bytes and times in another file."""
    times = path.stat()
    copy_of_tiny(path.with_suffix(".new")).replace(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.read_bytes(), 1),
        (lambda path: os.utime(path, ns=(0, 0)), 2),
        (lambda path: path.chmod(0o600), 2),
        (replaced, 2),
        (lambda path: copy_of_tiny(path.with_suffix(".b")), 1),
    ],
    ids=["read", "times", "status", "replaced", "another"],
)
def test_a_file_is_hashed_again_only_if_it_changed(tmp_path, hashings, change, expected):
    """Its device, inode, size and times tell; the hash that is known stands for a file in that state alone."""
    file = copy_of_tiny(tmp_path / "w.safetensors")
    known = load_model(weights=str(file)).file_hash  # waits for it
    change(file)

    again = load_model(weights=str(file), known_hash=known)

    assert again.weights_sha256 == known.sha256 == "f" * 64
    assert len(hashings) == expected


def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path, monkeypatch):
    """Its hash would be that of neither state."""
    file = copy_of_tiny(tmp_path / "w.safetensors")
    monkeypatch.setattr("motivnet_cli.weights.file_hash.sha256_of", lambda path: str(path.write_bytes(b"new")))

    model = load_model(weights=str(file))
    with pytest.raises(WeightsError, match="was changed while it was read"):
        _ = model.weights_sha256


def test_workers_do_not_hash_the_weights_again(tmp_path, hashings):
    """One hashing, in the process that starts them: a worker that hashed itself would refuse the run's hash."""
    config = RunConfig(
        inputs=InputConfig(paths=(str(SAMPLE_DATA / "astronaut.png"),)),
        output=OutputConfig(path=str(tmp_path / "p.parquet")),
        model=ModelConfig(weights=str(TINY)),
        faces=FaceConfig(mode="whole"),
        scale=ScaleConfig(devices=("cpu",)),
    )

    assert annotate(config).faces == 1
    assert len(hashings) == 1
    assert read_record(config.output.path)["weights_sha256"] == "f" * 64


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        (None, None, "motivnet-1b"),
        ("sapiens-1b", None, "sapiens-1b"),
        (None, "/a/MotivNet.pth", "MotivNet.pth"),
        ("motivnet-1b", "b.pth", "b.pth"),
        (None, "ein Gefühl.pth", "ein Gefühl.pth"),
        (None, "a\n\x1b[31m.pth", r"a\n\x1b[31m.pth"),
        (None, "a\udcff.pth", r"a\udcff.pth"),
    ],
)
def test_recorded_names(name, weights, expected):
    """A file goes by its name, without what a terminal would act on."""
    assert recorded_name(name, weights) == expected
    assert ModelConfig(name=name, weights=weights).recorded_name == expected


def test_everything_that_is_written_says_the_files_name(tmp_path):
    """The record, the log, the summary, --json and the page; markup in the name stays text."""
    file = copy_of_tiny(tmp_path / "[red]<i>.safetensors")
    out = tmp_path / "p.parquet"
    command = ["annotate", str(SAMPLE_DATA / "astronaut.png"), "--weights", str(file), "--out", str(out), "--json"]

    run = CliRunner().invoke(app, command, catch_exceptions=False)

    assert run.exit_code == 0, run.stderr
    record = read_record(out)
    assert record["model"] == record["settings"]["model.name"] == json.loads(run.stdout)["model"] == file.name
    assert run.stderr.count("[red]<i>.safetensors on") == 3  # as asked for, when it begins, and in the summary
    page = write_page(str(out), str(tmp_path / "r.html")).read_text()
    assert "[red]&lt;i&gt;.safetensors" in page
    for text in (run.stderr, run.stdout, page, json.dumps({**record, "command": ""})):
        assert "motivnet-1b" not in text


def test_an_encoder_file_gives_embeddings_and_says_so(tmp_path):
    """Who expected emotions hears why there are none; an evaluation is refused."""
    encoder = {name: tensor for name, tensor in load_file(TINY).items() if name.startswith("pose_encoder.")}
    file = tmp_path / "encoder.safetensors"
    save_file(encoder, file, metadata={"heads": "4", "height": "128", "width": "96"})
    out = tmp_path / "p.parquet"
    command = ["annotate", str(SAMPLE_DATA / "astronaut.png"), "--weights", str(file), "--out", str(out)]

    run = CliRunner().invoke(app, command, catch_exceptions=False)
    scored = CliRunner().invoke(
        app,
        ["evaluate", "--dataset", "folder", "--root", str(tmp_path), "--weights", str(file)],
        catch_exceptions=False,
    )

    assert run.exit_code == 0, run.stderr
    assert "encoder.safetensors is a Sapiens encoder without an emotion head" in run.stderr
    assert "emotion" not in read_faces(out).columns
    assert scored.exit_code == 2
    assert "encoder.safetensors names no emotions" in scored.stderr


def test_a_run_under_another_name_is_refused_with_both(tmp_path):
    """The same weights under another name belong to another run, since the rows would bear two names."""
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for file in files:
        copy_of_tiny(file)
    configs = [
        RunConfig(
            inputs=InputConfig(paths=(str(SAMPLE_DATA / "astronaut.png"),)),
            output=OutputConfig(path=str(tmp_path / "p.parquet")),
            model=ModelConfig(weights=str(file)),
            faces=FaceConfig(mode="whole"),
        )
        for file in files
    ]
    annotate(configs[0])

    assert annotate(configs[0]).state == "already_finished"
    with pytest.raises(OutputConflictError, match=r"model\.name was 'a\.safetensors', is now 'b\.safetensors'"):
        annotate(configs[1])
