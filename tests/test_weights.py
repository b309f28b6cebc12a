"""Checkpoints load exactly, or are refused with a message that says what the file is instead."""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from motivnet_cli.errors import WeightsError
from motivnet_cli.model import MotivNetSizes, SapiensSizes
from motivnet_cli.records import EMOTIONS
from motivnet_cli.weights.file_hash import file_sha256
from motivnet_cli.weights.networks import (
    convert,
    embedded_weights,
    load_checkpoint,
    load_expression_net,
    load_network,
)

load_encoder = functools.partial(load_network, encoder_only=True)
GOLDEN = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
GOLDEN_METADATA = {"heads": "4", "height": "128", "width": "96", "decoder_heads": "8"}
PIXELS = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def random_checkpoint(
    *, width=64, depth=2, mlp=96, tokens=12, decoder_width=32, decoder_depth=2, ffn=40, classes=7
) -> dict[str, torch.Tensor]:
    """A small network's tensors under the published names, spelled out here once more to check the table."""
    generator = torch.Generator().manual_seed(9)
    shapes = {
        "pose_encoder.projection.weight": (width, 3, 16, 16),
        "pose_encoder.projection.bias": (width,),
        "pose_encoder.pos_embed": (1, tokens, width),
    }
    for i in range(depth):
        layer = f"pose_encoder.layers.{i}"
        shapes |= norm(f"{layer}.ln1", width) | linear(f"{layer}.attn.qkv", width, 3 * width)
        shapes |= linear(f"{layer}.attn.proj", width, width) | norm(f"{layer}.ln2", width)
        shapes |= linear(f"{layer}.ffn.layers.0.0", width, mlp) | linear(f"{layer}.ffn.layers.1", mlp, width)
    shapes |= norm("pose_encoder.ln1", width)
    shapes |= linear("decoder.decoder.embed_standart", width, decoder_width)
    shapes["decoder.decoder.query_embed.weight"] = (classes, decoder_width)
    for i in range(decoder_depth):
        layer = f"decoder.decoder.layers.{i}"
        for k in (1, 2, 3):
            shapes |= norm(f"{layer}.norm{k}", decoder_width)
        shapes[f"{layer}.self_attn.in_proj_weight"] = (3 * decoder_width, decoder_width)
        shapes[f"{layer}.self_attn.in_proj_bias"] = (3 * decoder_width,)
        shapes |= linear(f"{layer}.self_attn.out_proj", decoder_width, decoder_width)
        shapes |= linear(f"{layer}.linear1", decoder_width, ffn) | linear(f"{layer}.linear2", ffn, decoder_width)
    shapes["decoder.decoder.duplicate_pooling"] = (classes, decoder_width, 1)
    shapes["decoder.decoder.duplicate_pooling_bias"] = (classes,)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def answers(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    return load_checkpoint(path)(PIXELS)


@pytest.fixture
def expected(tmp_path) -> tuple[torch.Tensor, torch.Tensor]:
    """What the random checkpoint answers when it is loaded from safetensors."""
    save_file(random_checkpoint(), tmp_path / "expected.safetensors")
    return answers(tmp_path / "expected.safetensors")


def respelled(state: dict[str, torch.Tensor], *pairs: tuple[str, str]) -> dict[str, torch.Tensor]:
    for old, new in pairs:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


LAYOUTS = {
    "bare": lambda state: state,
    "ordered": OrderedDict,
    "lightning": lambda state: {
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
    },
    "wrapped": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "other spellings": lambda state: respelled(
        state, (".projection.", ".patch_embed.projection."), ("self_attn", "multihead_attn")
    ),
    "float64": lambda state: {name: tensor.double() for name, tensor in state.items()},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pth_files_load_in_every_known_layout(tmp_path, expected, layout, zipped):
    """However torch.save wrapped the tensors, the network answers the same."""
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](random_checkpoint()), path, _use_new_zipfile_serialization=zipped)

    logits, embedding = answers(path)

    assert_close(logits, expected[0], atol=0, rtol=0)
    assert_close(embedding, expected[1], atol=0, rtol=0)


def test_the_content_decides_not_the_name(tmp_path, expected):
    """A pickle named .safetensors and a safetensors file named .pth both load."""
    torch.save(random_checkpoint(), tmp_path / "a.safetensors")
    save_file(random_checkpoint(), tmp_path / "b.pth")

    assert_close(answers(tmp_path / "a.safetensors"), expected)
    assert_close(answers(tmp_path / "b.pth"), expected)


@pytest.mark.parametrize(
    ("sizes", "attributes"),
    [
        ({"width": 128}, {"width": 128, "heads": 2}),
        ({"depth": 5}, {"depth": 5}),
        ({"mlp": 33}, {"mlp": 33}),
        ({"tokens": 48}, {"grid_height": 8, "grid_width": 6}),
        ({"decoder_width": 16}, {"decoder_width": 16}),
        ({"decoder_depth": 1}, {"decoder_depth": 1}),
        ({"ffn": 7}, {"decoder_ffn": 7}),
        ({"classes": 8}, {"num_classes": 8}),
    ],
    ids=str,
)
def test_sizes_are_read_from_the_tensors(tmp_path, sizes, attributes):
    """A variant of another size loads, and the network knows its sizes."""
    torch.save(random_checkpoint(**sizes), tmp_path / "variant.pth")

    network = load_checkpoint(tmp_path / "variant.pth")

    assert {name: getattr(network.sizes, name) for name in attributes} == attributes
    pixels = torch.zeros(1, 3, network.input_height, network.input_width, dtype=torch.uint8)
    assert network(pixels)[0].shape == (1, network.sizes.num_classes)


def test_eight_classes_are_the_seven_and_contempt(tmp_path):
    """The eighth class of an 8-class checkpoint is contempt."""
    torch.save(random_checkpoint(classes=8), tmp_path / "eight.pth")

    assert load_checkpoint(tmp_path / "eight.pth").classes == (*EMOTIONS, "contempt")


def test_safetensors_metadata_says_what_tensors_cannot(tmp_path):
    """Heads, input size and class names of the metadata are taken."""
    metadata = {"heads": "4", "decoder_heads": "2", "height": "32", "width": "96", "classes": "calm, cross"}
    save_file(random_checkpoint(classes=2), tmp_path / "said.safetensors", metadata)

    network = load_checkpoint(tmp_path / "said.safetensors")

    assert (network.sizes.heads, network.sizes.decoder_heads) == (4, 2)
    assert (network.input_height, network.input_width) == (32, 96)
    assert network.classes == ("calm", "cross")


def test_a_loaded_network_is_ready_for_inference(tmp_path):
    """It is in eval mode, float32, without gradients, with nothing left on the meta device."""
    save_file({k: v.half() for k, v in random_checkpoint().items()}, tmp_path / "half.safetensors")

    for network in (load_checkpoint(tmp_path / "half.safetensors"), load_expression_net()):
        tensors = [*network.parameters(), *network.buffers()]
        assert not network.training
        assert not any(t.requires_grad or t.is_meta or t.dtype != torch.float32 for t in tensors)


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch 2.6 imports it to check the size of a tensor")
def test_loading_imports_no_compiler(tmp_path):
    """torch's compiler, which random draws on the meta device may import, costs more than all the rest."""
    save_file(random_checkpoint(), tmp_path / "motivnet.safetensors")
    code = "import sys; from motivnet_cli.weights.networks import *; load_checkpoint(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "motivnet.safetensors")]

    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert "torch" in modules
    assert not {"torch._dynamo", "sympy"} & set(modules)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("load", [load_checkpoint, load_encoder])
@pytest.mark.parametrize("name", ["mapped.pth", "mapped.safetensors", "stored.safetensors"])
def test_parameters_are_mapped_not_copied(tmp_path, name, load):
    """While the network lives, its file is mapped, and its parameters lie inside the mapping."""
    path = tmp_path / name
    (torch.save if name.endswith("pth") else save_file)(random_checkpoint(), path)
    if name.startswith("stored"):
        path = tmp_path / "again.safetensors"
        convert(tmp_path / name, path, metadata={})

    network = load(path)

    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    assert spans
    for parameter in network.parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in spans)


def test_the_embedded_network_names_its_own_order():
    """The embedded network's classes are those of its file, the seven emotions in another order."""
    classes = load_expression_net().classes

    assert classes == ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
    assert sorted(classes) == sorted(EMOTIONS)


def test_file_sha256_is_that_of_the_bytes(tmp_path):
    """The hash of a file longer than one piece is the hash of its bytes."""
    path = tmp_path / "bytes"
    path.write_bytes(os.urandom(3_000_001))

    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with embedded_weights() as embedded:
        assert file_sha256(embedded) == hashlib.sha256(embedded.read_bytes()).hexdigest()


class Payload:
    """A pickle that opens a file for writing when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_plain_2(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def save_plain_5(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=5))


@pytest.mark.parametrize(
    ("save", "named"),
    [
        (save_zip, r"asks for `\w+\.open`"),
        (save_legacy, r"asks for `\w+\.open`"),
        (save_plain_2, r"asks for `[\w.]+`"),  # the first foreign name, which is not the payload's
        (save_plain_5, ""),  # its newer opcodes are refused before a name is read
    ],
)
def test_a_pickle_that_runs_code_is_refused(tmp_path, save, named):
    """Nothing of it runs, its code is named, and the message never advises how to run it after all."""
    target, path = tmp_path / "written", tmp_path / "evil.pth"
    save({**random_checkpoint(depth=1), "extra": Payload(target)}, path)

    with pytest.raises(WeightsError, match="refused and nothing of it ran") as caught:
        load_checkpoint(path)

    assert not target.exists()
    assert re.search(named, str(caught.value))
    shown = f"{caught.value}{caught.value.__cause__ or ''}"
    assert "weights_only" not in shown
    assert "safe_globals" not in shown


HTML = b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4644135452\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (HTML, "an HTML or XML page"),
        (LFS, "a Git LFS pointer"),
        (b'{"error": "not found"}', "JSON text"),
        (b"\x08\x07\x12\x07pytorch\x1a\x032.4", "an ONNX model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(64), "a gzip archive"),
        (bytes(257) + b"ustar" + bytes(250), "a tar archive"),
        (b"what is this", "an unknown kind"),
        (b"\x80", "an unknown kind"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not a header}  ", "header is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(tmp_path, content, says):
    """The message names the file and what it looks like."""
    path = tmp_path / "MotivNet.pth"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=says) as caught:
        load_checkpoint(path)

    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    """Neither a missing file nor a folder ends in an OSError."""
    for call in (load_checkpoint, file_sha256):
        with pytest.raises(WeightsError, match="no weights file is at"):
            call(tmp_path / "none.pth")
        with pytest.raises(WeightsError, match="is a folder"):
            call(tmp_path)


@pytest.mark.parametrize("share", [0.999, 0.5, 0.002])
@pytest.mark.parametrize("save", [save_zip, save_legacy, save_file])
def test_a_truncated_download_is_named(tmp_path, save, share):
    """A file cut short anywhere is refused as cut short or damaged."""
    path = tmp_path / "cut.pth"
    save(random_checkpoint(), path)
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))

    with pytest.raises(WeightsError, match=r"cut short|damaged"):
        load_checkpoint(path)


def test_a_damaged_pickle_ends_in_a_weights_error(tmp_path):
    """Whatever bytes of the pickle are changed, the file loads or is refused; no other exception escapes."""
    generator = torch.Generator().manual_seed(1)
    save_legacy(random_checkpoint(depth=1, decoder_depth=1), tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    refused = 0
    for _ in range(60):
        data = bytearray(good)
        data[int(torch.randint(2, 3000, (), generator=generator))] = int(torch.randint(0, 256, (), generator=generator))
        (tmp_path / "bad.pth").write_bytes(data)
        try:
            load_checkpoint(tmp_path / "bad.pth")
        except WeightsError:
            refused += 1

    assert refused > 20


def test_other_zip_archives_are_named(tmp_path):
    """A zip of pictures shows what is inside; a TorchScript program is named as code."""
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("a.jpg", b"")
    with zipfile.ZipFile(tmp_path / "script.pth", "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/constants.pkl", b"")

    with pytest.raises(WeightsError, match=r"torch.save did not make, with a\.jpg inside"):
        load_checkpoint(tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="TorchScript"):
        load_checkpoint(tmp_path / "script.pth")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "it holds a list where a dict of tensors was expected"),
        ({"pose_encoder.pos_embed": 3}, r"1 entries that are not named tensors: 'pose_encoder.pos_embed' \(int\)"),
        ({}, "it holds no tensors"),
    ],
)
def test_a_pth_without_tensors_is_refused(tmp_path, content, says):
    """A pickle of something else says what it holds."""
    torch.save(content, tmp_path / "odd.pth")

    with pytest.raises(WeightsError, match=says):
        load_checkpoint(tmp_path / "odd.pth")


@pytest.mark.parametrize("prefix", ["backbone.", "pose_encoder.", ""])
def test_a_sapiens_encoder_without_a_head_is_recognised(tmp_path, prefix):
    """The encoder alone is named as such, with the way on."""
    encoder = {
        prefix + name.removeprefix("pose_encoder."): tensor
        for name, tensor in random_checkpoint().items()
        if name.startswith("pose_encoder.")
    }
    save_file(encoder, tmp_path / "sapiens.safetensors")

    with pytest.raises(WeightsError, match=r"a Sapiens encoder without MotivNet's emotion head.*MotivNet.pth"):
        load_checkpoint(tmp_path / "sapiens.safetensors")


def test_another_network_is_refused():
    """A file of another network says what it holds."""
    with (
        embedded_weights() as path,
        pytest.raises(WeightsError, match=r"none of its tensors is named `decoder.decoder.*holds \d+ tensors"),
    ):
        load_checkpoint(path)


def without(*names: str):
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


MISFITS = {
    "missing": (
        without("pose_encoder.layers.1.ln2.bias", "decoder.decoder.duplicate_pooling_bias"),
        r"2 missing: pose_encoder.layers.1.ln2.bias \(64,\), decoder.decoder.duplicate_pooling_bias \(7,\)",
    ),
    "telling": (without("pose_encoder.pos_embed"), r"sizes are missing or misshapen: pose_encoder.pos_embed \(m"),
    "unexpected": (
        lambda state: state | {"pose_encoder.cls_token": torch.zeros(1, 1, 64)},
        r"1 unexpected: pose_encoder.cls_token \(1, 1, 64\)",
    ),
    "many": (
        lambda state: state | {f"extra.{i}": torch.zeros(1) for i in range(30)},
        r"30 unexpected: extra.0 \(1,\), .*extra.4 \(1,\) and 25 more",
    ),
    "two spellings": (
        lambda state: {"encoder.norm.bias": torch.zeros(64)} | state,
        r"1 unexpected: encoder.norm.bias \(64,\)",
    ),
    "two other spellings": (
        lambda state: (
            respelled(state, ("pose_encoder.projection.", "pose_encoder.patch_embed.projection."))
            | {"encoder.patch_embed.bias": torch.zeros(64)}
        ),
        r"1 unexpected: encoder.patch_embed.bias \(64,\)",
    ),
    "misshapen": (
        lambda state: state | {"decoder.decoder.query_embed.weight": torch.zeros(9, 32)},
        r"1 misshapen: decoder.decoder.query_embed.weight \(9, 32\) where \(7, 32\) was expected",
    ),
    "integers": (
        lambda state: state | {"pose_encoder.ln1.bias": torch.zeros(64, dtype=torch.int8)},
        r"1 not of a float type: pose_encoder.ln1.bias torch.int8",
    ),
    "gap": (
        lambda state: respelled(state, ("pose_encoder.layers.1.", "pose_encoder.layers.77.")),
        r"12 missing: pose_encoder.layers.1.*12 unexpected: pose_encoder.layers.77",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_do_not_fit_are_named(tmp_path, misfit):
    """Missing, unexpected and misshapen tensors are counted, and some named with their shapes."""
    change, says = MISFITS[misfit]
    torch.save(change(random_checkpoint()), tmp_path / "misfit.pth")

    with pytest.raises(WeightsError, match=says):
        load_checkpoint(tmp_path / "misfit.pth")


@pytest.mark.parametrize(
    ("sizes", "metadata", "says"),
    [
        ({"classes": 5}, {}, "it has 5 classes, and only 7 and 8 have known names"),
        ({"classes": 5}, {"classes": "5"}, "it has 5 classes"),
        ({"classes": 3}, {"classes": "a,b"}, "`classes` must be 3 different names"),
        ({"classes": 3}, {"classes": "a,b,b"}, "`classes` must be 3 different names"),
        ({"width": 96}, {}, "1.5 attention heads do not divide its width 96"),
        ({}, {"heads": "7"}, "7 attention heads do not divide its width 64"),
        ({}, {"heads": "many"}, "`heads` must be a whole number above 0, got 'many'"),
        ({"decoder_width": 12}, {}, "8 attention heads do not divide its width 12: .* `decoder_heads`"),
        ({"tokens": 14}, {}, "14 tokens, which make no grid of 4:3"),
        ({"tokens": 13}, {}, r"13 rows, where its input has 12 tokens \(class token dropped\)"),
        ({"tokens": 17}, {}, r"17 rows, where its input has 12 tokens \(resized from 4 x 4 to 4 x 3 tokens"),
        ({}, {"height": "64", "width": "64"}, "64 x 64 pixels, which are 16 patches, but .* has 12"),
    ],
)
def test_sizes_that_the_file_does_not_tell_are_an_error(tmp_path, sizes, metadata, says):
    """Nothing is guessed where tensors and metadata do not say it or contradict each other."""
    save_file(random_checkpoint(**sizes), tmp_path / "unclear.safetensors", metadata)

    with pytest.raises(WeightsError, match=says):
        load_checkpoint(tmp_path / "unclear.safetensors")


def test_the_golden_file_is_the_published_layout(tmp_path):
    """The golden checkpoint without its redundant metadata loads the same parameters."""
    save_file(load_file(GOLDEN), tmp_path / "again.safetensors", GOLDEN_METADATA)

    again = load_checkpoint(tmp_path / "again.safetensors").state_dict()

    for name, tensor in load_checkpoint(GOLDEN).state_dict().items():
        assert torch.equal(tensor, again[name])


def encoder_alone(prefix: str = "pose_encoder.") -> dict[str, torch.Tensor]:
    return {
        prefix + name.removeprefix("pose_encoder."): tensor
        for name, tensor in random_checkpoint().items()
        if name.startswith("pose_encoder.")
    }


POSE_HEAD = {"head.deconv_layers.0.weight": torch.zeros(4, 2, 4, 4), "head.final_layer.bias": torch.zeros(3)}
ENCODERS = {
    "sapiens": (encoder_alone("backbone."), 0),
    "pose estimator": ({**encoder_alone("backbone."), **POSE_HEAD}, 2),
    "lightning": ({f"model.{k}": v for k, v in {**encoder_alone("backbone."), **POSE_HEAD}.items()}, 2),
    "bare": (encoder_alone(""), 0),
    "bare with a head": ({**encoder_alone(""), **POSE_HEAD}, 2),
    "motivnet's": (encoder_alone(), 0),
    "motivnet": (random_checkpoint(), 33),
    "other spellings": (respelled(encoder_alone(""), ("projection.", "patch_embed.projection.")), 0),
}


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_file])
@pytest.mark.parametrize("layout", ENCODERS)
def test_an_encoder_loads_without_its_head(tmp_path, caplog, layout, save):
    """Wherever the encoder lies, it gives MotivNet's embedding and no logits; what was ignored is counted."""
    tensors, num_ignored = ENCODERS[layout]
    save(tensors, tmp_path / "encoder.pth")
    save_file(random_checkpoint(), tmp_path / "motivnet.safetensors")
    caplog.set_level(logging.INFO)

    encoder = load_encoder(tmp_path / "encoder.pth")

    logits, embedding = encoder(PIXELS)
    assert torch.equal(embedding, load_checkpoint(tmp_path / "motivnet.safetensors")(PIXELS)[1])
    assert (logits.shape, encoder.classes) == ((2, 0), ())
    counts = [record.args[1:] for record in caplog.records if record.name == "motivnet_cli.weights.networks"]
    assert counts == ([(29, num_ignored)] if num_ignored else [])


@pytest.mark.parametrize("prefix", ["backbone.", "pose_encoder.", ""])
def test_the_encoder_itself_must_fit(tmp_path, prefix):
    """Whatever else is ignored, a tensor of the encoder that is missing or unknown is an error."""
    good = {**encoder_alone(prefix), **POSE_HEAD}
    short = {name: tensor for name, tensor in good.items() if not name.endswith("layers.1.ln2.bias")}
    save_file(short, tmp_path / "short.safetensors")
    save_file({**good, f"{prefix}cls_token": torch.zeros(1, 1, 64)}, tmp_path / "classes.safetensors")

    with pytest.raises(WeightsError, match=r"holds no Sapiens encoder.*1 missing: pose_encoder.layers.1.ln2.bias"):
        load_encoder(tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match=r"holds no Sapiens encoder.*1 unexpected: pose_encoder.cls_token"):
        load_encoder(tmp_path / "classes.safetensors")


def test_another_network_is_no_encoder(tmp_path):
    """Neither loading nor converting takes a file without the encoder; the message says what it holds."""
    path = tmp_path / "other.safetensors"
    save_file({"fc.weight": torch.zeros(7, 256), "fc.bias": torch.zeros(7)}, path)
    for call in (load_encoder, lambda path: convert(path, tmp_path / "out.safetensors", metadata={})):
        with pytest.raises(WeightsError, match=r"named `pose_encoder.pos_embed`.*it holds 2 tensors \("):
            call(path)

    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_file])
def test_a_converted_motivnet_is_the_same_network(tmp_path, save):
    """Every tensor is there under our name, bit for bit, and what was written is reported."""
    source, stored = tmp_path / "MotivNet.pth", tmp_path / "stored.safetensors"
    save(random_checkpoint(), source)

    converted = convert(source, stored, metadata={"name": "mine", "format": "theirs"})

    expected = load_checkpoint(source)
    tensors = load_file(stored)
    assert set(tensors) == set(expected.state_dict())
    for network in (load_checkpoint(stored), load_encoder(stored)):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, expected.state_dict()[name])
            assert torch.equal(tensor, tensors[name])
    assert (converted.kind, converted.num_tensors, converted.num_ignored) == ("motivnet", len(tensors), 0)
    assert converted.num_parameters == sum(tensor.numel() for tensor in tensors.values())
    assert converted.dtypes == ("float32",)
    assert converted.sizes == expected.sizes
    assert converted.size_bytes == stored.stat().st_size
    assert converted.sha256 == file_sha256(stored)
    with safe_open(stored, framework="pt") as opened:
        assert opened.metadata() == {
            "name": "mine",
            "format": "motivnet-1",
            "heads": "1",
            "decoder_heads": "8",
            "height": "64",
            "width": "48",
            "classes": "neutral,happiness,sadness,surprise,fear,disgust,anger",
        }


@pytest.mark.parametrize("layout", ["sapiens", "pose estimator", "bare with a head"])
def test_a_converted_encoder_is_the_same_network(tmp_path, layout):
    """The encoder alone is kept, under our names; as a MotivNet it is refused for its missing head."""
    tensors, num_ignored = ENCODERS[layout]
    source, stored = tmp_path / "sapiens.pth", tmp_path / "stored.safetensors"
    torch.save({"meta": {"epoch": 1}, "state_dict": tensors}, source)

    converted = convert(source, stored, metadata={})

    expected = load_encoder(source)
    assert set(load_file(stored)) == set(expected.state_dict())
    for name, tensor in load_encoder(stored).state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])
    assert (converted.kind, converted.num_tensors, converted.num_ignored) == ("sapiens", 29, num_ignored)
    assert type(converted.sizes) is SapiensSizes
    with pytest.raises(WeightsError, match="without MotivNet's emotion head"):
        load_checkpoint(stored)


def test_what_the_source_had_to_say_is_said_in_the_copy(tmp_path):
    """Heads, input size and class names that no tensor tells survive a conversion, and one more."""
    said = {"heads": "4", "decoder_heads": "2", "height": "32", "width": "96", "classes": "calm, cross"}
    save_file(random_checkpoint(classes=2), tmp_path / "0.safetensors", said)

    for number in (0, 1):
        convert(tmp_path / f"{number}.safetensors", tmp_path / f"{number + 1}.safetensors", metadata={})

    first, last = (load_checkpoint(tmp_path / f"{number}.safetensors") for number in (0, 2))
    assert isinstance(last.sizes, MotivNetSizes)
    assert last.sizes == first.sizes
    assert (last.classes, last.sizes.heads, last.input_width) == (("calm", "cross"), 4, 96)
    assert_close(last(torch.zeros(1, 3, 32, 96)), first(torch.zeros(1, 3, 32, 96)), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_stored_as_float32(tmp_path, dtype):
    """The copy is float32, equal to what loading the source gives, and the report names the source's types."""
    tensors = random_checkpoint()
    mixed = {name: tensor if "norm" in name else tensor.to(dtype) for name, tensor in tensors.items()}
    torch.save(mixed, tmp_path / "mixed.pth")

    converted = convert(tmp_path / "mixed.pth", tmp_path / "stored.safetensors", metadata={})

    expected = load_checkpoint(tmp_path / "mixed.pth").state_dict()
    for name, tensor in load_file(tmp_path / "stored.safetensors").items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name])
    assert converted.dtypes == tuple(sorted(["float32", str(dtype).removeprefix("torch.")]))


def test_a_malicious_checkpoint_is_not_converted(tmp_path):
    """It is refused before anything is written, and its payload does not run."""
    save_zip({"state_dict": random_checkpoint(), "meta": Payload(tmp_path / "written")}, tmp_path / "evil.pth")

    with pytest.raises(WeightsError, match="refused and nothing of it ran"):
        convert(tmp_path / "evil.pth", tmp_path / "stored.safetensors", metadata={})

    assert not (tmp_path / "written").exists()
    assert not (tmp_path / "stored.safetensors").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_os_error(tmp_path):
    """A disk that fills up during a conversion is not called a fault of the checkpoint."""
    save_file(random_checkpoint(), tmp_path / "good.safetensors")

    with pytest.raises(OSError, match="No space left") as caught:
        convert(tmp_path / "good.safetensors", Path("/dev/full"), metadata={})

    assert caught.value.errno == errno.ENOSPC
