"""A network written for other runtimes computes there what it computes here, and says what it wants to see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from motivnet_cli.errors import ConfigError, WeightsError
from motivnet_cli.export import network_formats
from motivnet_cli.export.network import export_model
from motivnet_cli.faces.crop import to_pixels
from motivnet_cli.records import EMOTIONS
from motivnet_cli.weights.file_hash import file_sha256
from motivnet_cli.weights.load import load_model

pytestmark = pytest.mark.xdist_group("export_network")  # what one process has exported serves every test

TINY = str(Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors")
ASTRONAUT = Path(__file__).parents[1] / "sample_data" / "astronaut.png"
NAMES = ["probabilities", "logits", "embedding"]


def faces(model, count):
    """A real face in several cuts, as the network takes it: uint8 [count, 3, H, W]."""
    rgb = np.array(Image.open(ASTRONAUT).convert("RGB"))
    cuts = [rgb[40 + 4 * number : 190, 150 : 300 - 3 * number] for number in range(count)]
    size = {"recipe": model.recipe, "height": model.height, "width": model.width, "fill_rgb": (0, 0, 0)}
    return np.stack([to_pixels(cut, **size) for cut in cuts])


def asked(model, pixels):
    """What the network itself says of uint8 pixels."""
    logits, embedding = model.network(torch.from_numpy(pixels))
    return {"probabilities": logits.softmax(-1).numpy(), "logits": logits.numpy(), "embedding": embedding.numpy()}


def run_alone(example):
    """The stdout of an example file, run from another folder without this package's help."""
    done = subprocess.run([sys.executable, "-I", str(example)], cwd="/", capture_output=True, text=True, check=True)
    assert "motivnet_cli" not in example.read_text()
    return done.stdout


@pytest.fixture(scope="module")
def tiny_onnx(tmp_path_factory):
    pytest.importorskip("onnxscript")
    """The tiny golden network, with the recipe that has bands, and what the export said of it."""
    out = tmp_path_factory.mktemp("onnx") / "tiny's.onnx"
    return out, export_model(None, "onnx", out, weights=TINY, recipe="pad")


@pytest.fixture(scope="module")
def half_onnx(tmp_path_factory):
    pytest.importorskip("onnxscript")
    """The embedded network in fp16 for float pixels, moved to another folder with its weights beside it."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_formats, "EXTERNAL_DATA_BYTES", 1)
        export_model("expression-net", "onnx", folder / "old" / "n.onnx", precision="fp16", input_type="float")
    (folder / "old").rename(folder / "new")
    return folder / "new" / "n.onnx"


@pytest.fixture(scope="module")
def embedder_pt2(tmp_path_factory):
    """The encoder of the golden network, alone."""
    out = tmp_path_factory.mktemp("pt2") / "embedder.pt2"
    tensors = {name: tensor for name, tensor in load_file(TINY).items() if name.startswith("pose_encoder.")}
    encoder = str(out.with_name("encoder.safetensors"))
    save_file(tensors, encoder, metadata={"heads": "4", "height": "128", "width": "96"})
    return out, export_model(None, "torch-export", out, weights=encoder)


@pytest.mark.parametrize("count", [1, 4])
def test_onnx_computes_what_the_network_computes(tiny_onnx, count):
    """Every output agrees within 1e-4 on a real face, in batches of other sizes than it was traced with."""
    model = load_model(weights=TINY, recipe="pad")
    pixels = faces(model, count)

    found = onnxruntime.InferenceSession(str(tiny_onnx[0])).run(NAMES, {"pixels": pixels})

    for name, rows in zip(NAMES, found, strict=True):
        np.testing.assert_allclose(rows, asked(model, pixels)[name], atol=1e-4, rtol=0, err_msg=name)


def test_onnx_says_what_it_takes_gives_and_is(tiny_onnx):
    """Names, types and sizes are in the graph; classes, recipe, terms and origin in its metadata."""
    session = onnxruntime.InferenceSession(str(tiny_onnx[0]))
    (taken,) = session.get_inputs()
    about = session.get_modelmeta().custom_metadata_map

    assert (taken.name, taken.type, taken.shape) == ("pixels", "tensor(uint8)", ["batch", 3, 128, 96])
    assert [(each.name, each.type, each.shape) for each in session.get_outputs()] == [
        ("probabilities", "tensor(float)", ["batch", 7]),
        ("logits", "tensor(float)", ["batch", 7]),
        ("embedding", "tensor(float)", ["batch", 96]),
    ]
    assert about == tiny_onnx[1].metadata
    assert about["classes"].split(",") == list(EMOTIONS)
    assert about["name"] == tiny_onnx[1].model == Path(TINY).name
    assert "AffectNet (research only)" in about["terms"]
    assert about["source_sha256"] == file_sha256(TINY)
    assert (about["recipe"], about["height"], about["width"]) == ("pad", "128", "96")
    assert "uint8 [batch, 3, 128, 96], RGB, 0 to 255" in about["input"]
    assert "with 16 white rows above and below" in about["input"]


def test_an_export_says_what_it_wrote_and_how_far_it_is_off(tiny_onnx):
    """The files with their size, and the largest difference found when both were run."""
    out, said = tiny_onnx

    assert said.files == (str(out), f"{out}.example.py")
    assert sorted(map(str, out.parent.iterdir())) == sorted(said.files)
    assert said.size_bytes == sum(Path(file).stat().st_size for file in said.files)
    assert said.outputs == {"probabilities": 7, "logits": 7, "embedding": 96}
    assert said.largest_difference == max(said.differences.values()) <= 1e-4


def test_the_onnx_example_runs_with_onnxruntime_alone(tiny_onnx):
    """The file beside the export prints a probability for each class, and needs neither torch nor this package."""
    example = Path(f"{tiny_onnx[0]}.example.py")

    printed = run_alone(example)

    assert "import torch" not in example.read_text()
    assert all(f"'{emotion}': 0." in printed for emotion in EMOTIONS)
    assert printed.endswith("(1, 96)\n")


def test_weights_beside_the_graph_are_found_after_a_move(half_onnx):
    """A graph with external data names it relative to itself, under the name it has in the end."""
    assert half_onnx.stat().st_size < 500_000 < Path(f"{half_onnx}.data").stat().st_size < 750_000
    assert "'surprise': 0." in run_alone(Path(f"{half_onnx}.example.py"))


def test_half_precision_takes_float_pixels_and_stays_near(half_onnx):
    """fp16 for float32 pixels from 0 to 255 gives float32 probabilities within 0.01."""
    model = load_model("expression-net")
    pixels = faces(model, 3)
    session = onnxruntime.InferenceSession(str(half_onnx))

    (found,) = session.run(["probabilities"], {"pixels": pixels.astype(np.float32)})

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, asked(model, pixels)["probabilities"], atol=0.01, rtol=0)
    assert session.get_modelmeta().custom_metadata_map["mirror_averaging"] == "yes"


def test_torch_loads_its_own_format(embedder_pt2):
    """`torch.export.load` gives the same embedding for any batch; a model without emotions has no other output."""
    out, said = embedder_pt2
    model = load_model(weights=str(out.with_name("encoder.safetensors")))
    about = {"metadata.json": ""}
    exported = torch.export.load(out, extra_files=about).module()

    assert json.loads(about["metadata.json"]) == said.metadata
    for count in (1, 3):
        pixels = faces(model, count)
        found = exported(torch.from_numpy(pixels))
        assert list(found) == ["embedding"]
        np.testing.assert_allclose(found["embedding"], asked(model, pixels)["embedding"], atol=1e-5, rtol=0)


def test_the_torch_example_runs_with_torch_alone(embedder_pt2):
    """The file beside a `.pt2` runs it."""
    assert "torch.Size([1, 96])" in run_alone(Path(f"{embedder_pt2[0]}.example.py"))


@pytest.mark.parametrize(
    ("precision", "dtype", "tolerance"),
    [("fp32", torch.float32, 0), ("fp16", torch.float16, 1e-3), ("bf16", torch.bfloat16, 1e-2)],
)
def test_weights_alone_load_again(tmp_path, precision, dtype, tolerance):
    """`--weights` takes an exported safetensors file, and it answers as the original within the precision."""
    out = tmp_path / "tiny.safetensors"
    said = export_model(None, "safetensors", out, weights=TINY, precision=precision)
    original, again = load_model(weights=TINY), load_model(weights=str(out))
    pixels = faces(original, 2)

    found = asked(again, pixels)["probabilities"]

    np.testing.assert_allclose(found, asked(original, pixels)["probabilities"], atol=tolerance, rtol=0)
    assert again.classes == original.classes
    assert {tensor.dtype for tensor in load_file(out).values()} == {dtype}
    with safe_open(str(out), framework="pt") as opened:
        assert opened.metadata() == said.metadata


def test_an_exported_file_is_as_readable_as_any_other(tmp_path):
    """The umask decides who may read it, and nothing else."""
    (tmp_path / "plain").touch()

    export_model("expression-net", "safetensors", tmp_path / "n.safetensors")

    assert (tmp_path / "n.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_does_not_compute_the_same_is_not_left_behind(tmp_path):
    """Weights beyond the range of fp16 are found by running the file, and nothing remains of it."""
    tensors = load_file(TINY)
    tensors["decoder.decoder.duplicate_pooling"] *= 1e6
    with safe_open(TINY, framework="pt") as opened:
        save_file(tensors, tmp_path / "large.safetensors", metadata=opened.metadata())
    out = tmp_path / "out" / "n.safetensors"

    with pytest.raises(WeightsError, match=r"was not written: in fp16 its probabilities is nan away.*--precision fp32"):
        export_model(None, "safetensors", out, weights=str(tmp_path / "large.safetensors"), precision="fp16")

    assert list(out.parent.iterdir()) == []


def test_nothing_is_replaced_unless_told(tmp_path):
    """An export that is there stays, byte for byte; with `overwrite` it goes with all that lay beside it."""
    out = tmp_path / "n.safetensors"
    out.write_bytes(b"mine")
    beside = tmp_path / "n.safetensors.data"
    beside.write_bytes(b"of an earlier export")

    with pytest.raises(ConfigError, match=r"n\.safetensors.* exists.*--overwrite"):
        export_model("expression-net", "safetensors", out)
    assert out.read_bytes() == b"mine"
    export_model("expression-net", "safetensors", out, overwrite=True)

    assert sorted(tmp_path.iterdir()) == [out]
    assert out.stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"to": "tflite", "out": "n.onnx"}, "no format of a model is named 'tflite'; there are: onnx, torch-export"),
        ({"to": "onnx", "out": "n.pt2"}, r"named \*.onnx, got n.pt2"),
        ({"to": "onnx", "out": "n.onnx", "precision": "bf16"}, "in fp32 or fp16, got 'bf16'"),
        ({"to": "onnx", "out": "n.onnx", "precision": "int8"}, "in fp32 or fp16, got 'int8'"),
        ({"to": "safetensors", "out": "n.safetensors", "input_type": "float"}, "for uint8 pixels, got 'float'"),
        ({"to": "torch-export", "out": "folder.pt2"}, "is a folder and this export makes a file"),
    ],
)
def test_wrong_combinations_are_config_errors(tmp_path, monkeypatch, arguments, says):
    """What cannot be written is refused with what can, before any weights are read."""
    monkeypatch.chdir(tmp_path)
    Path("folder.pt2").mkdir()

    with pytest.raises(ConfigError, match=says):
        export_model("motivnet-1b", weights="no such file", **arguments)
