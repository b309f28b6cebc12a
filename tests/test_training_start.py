"""A training starts from any Sapiens encoder or MotivNet, with a head for its classes, and says from which."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from motivnet_cli.errors import ConfigError, WeightsError
from motivnet_cli.model import MotivNet, MotivNetSizes, SapiensSizes
from motivnet_cli.records import EMOTIONS
from motivnet_cli.training.config import OptimConfig
from motivnet_cli.training.optim import classification_loss, make_optimizer, prepare
from motivnet_cli.training.result import put_in_store
from motivnet_cli.training.start import DecoderSizes, begin, load_start
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.store import UNKNOWN_TERMS, Store
from tests.trained import record

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
CHANGE = "resized from 8 x 8 to 8 x 6 tokens, bicubic, class token dropped"
SMALL = DecoderSizes(width=32, depth=3, heads=4, ffn=40)
CLASSES = ("calm", "cross", "neutral")


@pytest.fixture
def encoder(tmp_path):
    """The encoder of the golden network, as Sapiens was pretrained: for square pictures, with a class token."""
    golden = load_file(TINY)
    tensors = {
        name.replace("pose_encoder.", "backbone."): tensor for name, tensor in golden.items() if "pose_encoder" in name
    }
    tensors |= {"backbone.pos_embed": torch.randn(1, 65, 96), "backbone.cls_token": torch.zeros(1, 1, 96)}
    save_file(tensors, tmp_path / "encoder.safetensors", {"heads": "4"})
    return tmp_path / "encoder.safetensors"


def pixels(number=2):
    return torch.randint(0, 256, (number, 3, 128, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def golden_model():
    return load_start(str(TINY))


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_an_encoder_gets_a_head_of_the_references_sizes(encoder):
    """What it computes stays, the head is the reference's in sizes, and the record hears what was done."""
    model = load_start(str(encoder))

    start = begin(model, CLASSES, seed=3)

    assert torch.equal(start.network(pixels())[1], model.network(pixels())[1])
    expected = MotivNetSizes(width=96, depth=3, heads=4, mlp=384, grid_height=8, grid_width=6, num_classes=3)
    assert start.network.sizes == expected
    assert start.network.head.queries.shape == (3, 1152)
    assert start.network(pixels())[0].isfinite().all()
    assert not any(parameter.is_meta for parameter in start.network.parameters())
    assert start.has_new_head
    assert start.remarks == (f"The position table of encoder.safetensors was made to fit the input: {CHANGE}.",)
    assert (start.parent.name, start.parent.role, start.parent.terms) == ("encoder.safetensors", "start", UNKNOWN_TERMS)
    assert start.parent.sha256 == model.weights_sha256


def test_a_head_is_drawn_by_its_seed(encoder):
    """The same again for the same seed, with layers that start equal, in the sizes that are asked for."""
    model = load_start(str(encoder))
    first, again, other = (begin(model, CLASSES, seed=seed, decoder=SMALL).network for seed in (0, 0, 1))

    assert same(first.head, again.head)
    assert not same(first.head, other.head)
    assert same(first.head.layers[0], first.head.layers[2])
    assert not torch.equal(first.head.queries, other.head.queries)
    assert (first.sizes.decoder_width, first.sizes.decoder_depth, first.sizes.decoder_ffn) == (32, 3, 40)


@pytest.mark.parametrize("classes", [EMOTIONS, EMOTIONS[::-1]], ids=["same order", "another order"])
def test_the_head_of_the_same_classes_is_kept(classes):
    """In another order, too: what it says of each class stays the same."""
    model = golden_model()
    logits, embedding = model.network(pixels())

    start = begin(model, classes, seed=0, decoder=SMALL)

    ours = start.network(pixels())
    assert torch.equal(ours[1], embedding)
    assert torch.equal(model.network(pixels())[0], logits)
    torch.testing.assert_close(ours[0], logits[:, [EMOTIONS.index(name) for name in classes]])
    assert (start.network.classes, start.network.sizes) == (classes, model.network.sizes)
    assert not start.has_new_head
    assert start.remarks == ()


@pytest.mark.parametrize(
    ("classes", "new_head", "why"),
    [
        (CLASSES, False, f"which told {', '.join(EMOTIONS)} apart"),
        (EMOTIONS[:6], False, f"which told {', '.join(EMOTIONS)} apart"),
        (EMOTIONS, True, "as asked for"),
    ],
)
def test_a_head_of_other_classes_is_replaced(classes, new_head, why):
    """By one of its sizes, with a remark."""
    model = golden_model()

    start = begin(model, classes, seed=0, new_head=new_head)

    assert start.has_new_head
    assert start.remarks == (f"The head of {TINY.name} was replaced by a new one, {why}.",)
    assert start.network.sizes == dataclasses.replace(model.network.sizes, num_classes=len(classes))
    assert not torch.equal(start.network.head.embed.weight, model.network.head.embed.weight)
    assert torch.equal(start.network(pixels())[1], model.network(pixels())[1])


def test_a_start_trains_is_stored_and_starts_again(encoder, tmp_path):
    """By name from the store; training leaves the file that it started from as it was, and terms go along."""
    content = encoder.read_bytes()
    start = begin(load_start(str(encoder)), CLASSES, seed=0, decoder=SMALL)
    network, config = start.network.train(), OptimConfig(encoder_lr=1e-2, head_lr=1e-2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    prepare(network, config, generator=torch.Generator().manual_seed(0))
    optimizer = make_optimizer(network, config)
    classification_loss(network(pixels(3))[0], torch.eye(3)).backward()
    optimizer.step()
    store = Store(tmp_path / "store")
    made = record(classes=CLASSES, parents=(start.parent,), remarks=start.remarks)
    put_in_store("mine", network.eval(), made, store=store)

    again = begin(load_start("mine", store=str(store.root)), CLASSES, seed=1)

    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(before) - {"head.queries"}
    assert encoder.read_bytes() == content
    assert same(again.network, network)
    assert (again.has_new_head, again.network.position_change) == (False, CHANGE)
    assert again.remarks == (f"The position table of mine was made to fit the input: {CHANGE}.",)
    assert UNKNOWN_TERMS.rstrip(".") in again.parent.terms
    assert load_model("mine", store=str(store.root)).position_change == CHANGE
    assert store.find("mine").position_change == CHANGE


def test_what_is_no_start_is_refused(tmp_path, monkeypatch):
    """What is given, what was expected, and what to do."""
    monkeypatch.chdir(tmp_path)
    Path("sapiens-1b").write_bytes(TINY.read_bytes())
    Path("folder").mkdir()
    store = str(tmp_path / "store")

    with pytest.raises(ConfigError, match=r"'sapiens-1b' is a model and a file here as well: write \./sapiens-1b for"):
        load_start("sapiens-1b", store=store)
    assert isinstance(load_start("./sapiens-1b", store=store).network, MotivNet)
    for unknown in ("sapiens-2b", "folder", "none.pth"):
        with pytest.raises(ConfigError, match=rf"a training starts from .* there is none called '{unknown}'"):
            load_start(unknown, store=store)
    with pytest.raises(ConfigError, match="expression-net is of the architecture expression-net: start from sapiens"):
        load_start("expression-net", store=store)
    with pytest.raises(WeightsError, match=r"the weights of motivnet-1b are not here .* give --init their file"):
        load_start("motivnet-1b", store=store)


def test_every_size_of_the_family_gets_the_same_head():
    """1,152 numbers wide over any encoder, so that only the layer that embeds its tokens grows with it."""
    from motivnet_cli.catalogue import SAPIENS_SIZES

    heads = {}
    for each in SAPIENS_SIZES:
        sizes = SapiensSizes(width=each.width, depth=each.depth, heads=each.heads, mlp=each.mlp)
        with torch.device("meta"):
            network = MotivNet(MotivNetSizes(**dataclasses.asdict(sizes), num_classes=7))
        heads[each.label] = sum(parameter.numel() for parameter in network.head.parameters())

    assert heads["1B"] == 21_870_215
    assert {label: heads[label] - heads["1B"] for label in heads} == {
        each.label: (each.width - 1536) * 1152 for each in SAPIENS_SIZES
    }
