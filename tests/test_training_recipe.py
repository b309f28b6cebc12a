"""A training step does to the network what MotivNet's reference does, and what is added does what it says."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from motivnet_cli.errors import ConfigError
from motivnet_cli.model import MotivNet, MotivNetSizes
from motivnet_cli.training.config import FitConfig, OptimConfig
from motivnet_cli.training.optim import (
    balanced_weights,
    classification_loss,
    make_optimizer,
    make_schedule,
    prepare,
)
from motivnet_cli.weights.networks import checkpoint_name, load_checkpoint

GOLDEN = Path(__file__).parent / "golden"
TINY = MotivNetSizes(width=32, depth=2, heads=4, mlp=64, decoder_width=32, decoder_ffn=48, grid_height=8, grid_width=6)
NO_DROPOUT = OptimConfig(dropout=0)
LARGE = OptimConfig(dropout=0, encoder_lr=1e-4, head_lr=1e-3)


def golden(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / name) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def golden_network(config: OptimConfig) -> MotivNet:
    """The golden network, ready to train."""
    network = load_checkpoint(GOLDEN / "motivnet_tiny_7.safetensors")
    prepare(network, config, generator=seeded(0))
    return network


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def golden_batch(network: MotivNet) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and one-hot targets of the golden cases."""
    pixels = golden("motivnet_tiny_7.npz")["normalised_input"] * network.std + network.mean
    return pixels, torch.eye(7)[golden("training_tiny_7.npz")["labels"]]


class GoldenFaces:
    """The golden batch as `fit` takes examples, but for the pixels, which no whole numbers give."""

    names = ("a", "b", "c")

    def __init__(self, network: MotivNet) -> None:
        self.pixels, targets = golden_batch(network)
        self.targets = targets.numpy()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pixels[index]


def assert_within(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-4 of the largest value."""
    assert_close(actual.detach(), expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize(("case", "config"), [("reference", NO_DROPOUT), ("large", LARGE)])
def test_five_steps_are_the_references(case, config, tmp_path):
    """Losses, first gradients and their norms, then tensors and logits, at the reference's rates and at larger ones.

    Through `fit`, which `motivnet train` calls: five epochs of one step, whose rates begin anew in each.
    """
    pytest.importorskip("lightning")
    from motivnet_cli.training.fit import fit
    from tests.tiny_training import objective

    expected = golden("training_tiny_7.npz")
    network = golden_network(config)
    faces = GoldenFaces(network)
    named = {checkpoint_name(name): parameter for name, parameter in network.named_parameters()}
    gradients: dict[str, torch.Tensor] = {}

    def keep_first(name, gradient):
        gradients.setdefault(name, gradient.clone())

    for name, parameter in named.items():
        if parameter.requires_grad:
            parameter.register_hook(partial(keep_first, name))

    asked = objective(dataclasses.replace(config, restart_epochs=1))
    fitted = fit(network, asked, faces, faces, FitConfig(epochs=5, device="cpu", threads=1), folder=tmp_path)

    losses = torch.tensor([epoch["train_loss"] for epoch in fitted.history], dtype=torch.float64)
    assert_close(losses, expected[f"{case}/losses"], atol=1e-5, rtol=0)
    assert fitted.best_epoch == 5  # the network has its weights
    with torch.no_grad():
        assert_within(network.eval()(faces.pixels)[0], expected[f"{case}/logits_after"])
    for name in [key.removeprefix("grad/") for key in expected if key.startswith("grad/")]:
        assert_within(gradients[name], expected[f"grad/{name}"])
    for part, prefix in (("encoder", "pose_encoder."), ("head", "decoder.")):
        norm = torch.cat([each.flatten() for name, each in gradients.items() if name.startswith(prefix)]).norm()
        assert_within(norm, expected[f"grad_norm_{part}"])
    if case == "large":
        for name in [key.removeprefix("after/") for key in expected if key.startswith("after/")]:
            assert_within(named[name], expected[f"after/{name}"])


def test_a_loaded_network_trains_with_dropout(tmp_path):
    """It is loaded in eval mode; steps are in train mode, and validation is not."""
    pytest.importorskip("lightning")
    from motivnet_cli.training.fit import fit
    from tests.tiny_training import objective

    network = golden_network(OptimConfig())
    faces = GoldenFaces(network)
    modes = []
    network.register_forward_pre_hook(lambda *_: modes.append(network.head.layers[0].attention.training))

    fit(network, objective(OptimConfig()), faces, faces, FitConfig(epochs=2, device="cpu", threads=1), folder=tmp_path)

    assert modes == [True, False, True, False]


def test_the_learning_rates_are_the_references():
    """Over 25 epochs, restarts at 10 and 20."""
    optimizer = make_optimizer(golden_network(NO_DROPOUT), NO_DROPOUT)
    schedule = make_schedule(optimizer, NO_DROPOUT)

    rates = []
    for epoch in range(25):
        schedule.step(epoch)
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()

    assert [group["name"] for group in optimizer.param_groups] == ["encoder", "head"]
    assert_close(torch.tensor(rates, dtype=torch.float64), golden("training_tiny_7.npz")["schedule"], atol=0, rtol=1e-9)


def test_a_new_head_is_drawn_as_torch_draws():
    """Every tensor lies in its bounds and has its spread; layers start equal; the seed decides, and nothing else."""
    sizes = MotivNetSizes(
        width=192, depth=1, heads=3, mlp=64, decoder_width=128, decoder_ffn=320, grid_height=4, grid_width=3
    )
    head = MotivNet(sizes).head
    assert head(torch.zeros(1, 12, 192)).isnan().all()  # what was never drawn or loaded shows

    head.reset_parameters(seeded(3))

    state = head.state_dict()
    layer = {name.removeprefix("layers.0."): tensor for name, tensor in state.items() if name.startswith("layers.0.")}
    bounds = {
        "embed.weight": 192**-0.5,
        "embed.bias": 192**-0.5,
        "attention.qkv.weight": math.sqrt(6 / (128 + 3 * 128)),
        "attention.out.weight": 128**-0.5,
        "up.weight": 128**-0.5,
        "up.bias": 128**-0.5,
        "down.weight": 320**-0.5,
        "down.bias": 320**-0.5,
    }
    for name, bound in bounds.items():
        assert_uniform((state | layer)[name], bound)
    assert_normal(state["queries"], 1)
    assert_normal(state["class_weight"], math.sqrt(2 / (128 + 7)))
    for name in ("attention.qkv.bias", "attention.out.bias", "norm1.bias", "norm2.bias", "norm3.bias"):
        assert not layer[name].any()
    assert not state["class_bias"].any()
    assert all((layer[f"norm{n}.weight"] == 1).all() for n in (1, 2, 3))
    assert len(state) == 5 + 2 * (len(bounds) - 2 + 5 + 3)
    assert all(torch.equal(tensor, state[f"layers.1.{name}"]) for name, tensor in layer.items())

    again = MotivNet(sizes).head
    torch.rand(5)
    again.reset_parameters(seeded(3))
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    again.reset_parameters(seeded(4))
    assert not torch.equal(again.queries, head.queries)


def assert_uniform(values: torch.Tensor, bound: float) -> None:
    """Within the bound, and as widely spread as n uniform draws: their variance is off by at most 5 standard errors."""
    assert values.abs().max() <= bound
    # The variance of x^2 is b^4 (1/5 - 1/9).
    error = bound**2 * math.sqrt((1 / 5 - 1 / 9) / values.numel())
    assert (values**2).mean().item() == pytest.approx(bound**2 / 3, abs=5 * error)
    assert values.mean().item() == pytest.approx(0, abs=5 * bound / math.sqrt(3 * values.numel()))


def assert_normal(values: torch.Tensor, std: float) -> None:
    """Mean and variance off by at most 5 standard errors, and tails that no uniform draw has."""
    assert (values**2).mean().item() == pytest.approx(std**2, abs=5 * std**2 * math.sqrt(2 / values.numel()))
    assert values.mean().item() == pytest.approx(0, abs=5 * std / math.sqrt(values.numel()))
    assert values.abs().max() > 2.5 * std


@pytest.mark.parametrize(("config", "rate"), [(OptimConfig(), 0.1), (OptimConfig(dropout=0.3), 0.3)])
def test_the_head_drops_values_at_five_places(config, rate):
    """Of the added query, of the attention's weights and result, within the FFN and of its result, and nowhere else."""
    sizes = MotivNetSizes(
        width=64, depth=1, heads=4, mlp=8, decoder_width=64, decoder_ffn=128, grid_height=4, grid_width=2
    )
    network = MotivNet(sizes)
    network.head.reset_parameters(seeded(1))
    prepare(network, config, generator=seeded(0))
    head = network.head
    tokens = torch.eye(8).repeat(24, 1, 8)  # [B, 8, 64]: token n is 1 at number n of each attention head, else 0
    with torch.no_grad():
        head.embed.weight.copy_(torch.eye(64))
        head.embed.bias.zero_()
        for attention in (layer.attention for layer in head.layers):
            # All tokens get the same weight, and a head's result has that of token n as its n-th number.
            attention.qkv.weight.copy_(torch.cat([torch.zeros(128, 64), torch.eye(64)]))
            nn.init.uniform_(attention.out.bias, generator=seeded(2))
    calls = {}
    for name, module in head.named_modules():
        module.register_forward_hook(lambda _, args, out, name=name: calls.update({name: (args, out)}))

    torch.manual_seed(5)
    head(tokens)

    for n in range(2):
        call = {name.removeprefix(f"layers.{n}."): each for name, each in calls.items()}
        (x, memory), result = calls[f"layers.{n}"]
        assert torch.equal(memory, tokens)
        assert call["attention"][0][0] is call["norm1"][1]
        assert call["attention"][0][1] is memory
        assert call["up"][0][0] is call["norm2"][1]
        assert result is call["norm3"][1]
        query, attended, fed = (call[f"norm{n}"][0][0] for n in (1, 2, 3))
        assert_dropped(query - x, x, rate)
        weights = call["attention.out"][0][0]
        assert_dropped(weights, torch.full_like(weights, 1 / 8), rate)
        assert_dropped(attended - call["norm1"][1], call["attention"][1], rate)
        assert_dropped(call["down"][0][0], call["up"][1].relu(), rate)
        assert_dropped(fed - call["norm2"][1], call["down"][1], rate)


def assert_dropped(values: torch.Tensor, whole: torch.Tensor, rate: float) -> None:
    """Of the values [B, ...] that were not 0 anyway, so many are 0, in each image others; the rest makes up for it."""
    assert_close(values, torch.where(values.abs() < 1e-6, 0, whole / (1 - rate)), atol=1e-5, rtol=1e-5)
    was_there = whole.abs() > 1e-4
    dropped = (values.abs() < 1e-6) & was_there
    n = int(was_there.sum())
    assert n > 5000
    # 5 standard errors: at these numbers less than 0.03.
    assert dropped.sum().item() / n == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / n))
    both = was_there[0::2] & was_there[1::2]
    twice = (dropped[0::2] & dropped[1::2])[both].float().mean().item()
    assert twice == pytest.approx(rate**2, abs=5 * rate / math.sqrt(int(both.sum())))


def test_the_loss_by_hand():
    """With soft labels, label smoothing and class weights: weights times smoothed targets, over the examples."""
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
    targets = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    weights = torch.tensor([2.0, 0.5, 1.0])

    loss = classification_loss(logits, targets, class_weights=weights, label_smoothing=0.1)

    log_p = logits.double() - logits.double().exp().sum(1, keepdim=True).log()
    smoothed = 0.9 * targets.double() + 0.1 / 3
    expected = -(weights * smoothed * log_p).sum() / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert classification_loss(logits.bfloat16(), targets).dtype == torch.float32


def test_balanced_weights_by_hand():
    """n / (C n_c), which leaves the mean over the examples at 1; a class without examples is refused by name."""
    weights = balanced_weights({"neutral": 6, "happiness": 3, "fear": 1})

    assert_close(weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    assert (weights @ torch.tensor([6.0, 3.0, 1.0])).item() / 10 == pytest.approx(1)
    with pytest.raises(ConfigError, match="none of fear: leave the class or the weights out"):
        balanced_weights({"neutral": 6, "fear": 0})


@pytest.mark.parametrize("wrong", [{"head_lr": -1}, {"encoder_lr": math.nan}, {"dropout": 1}, {"restart_epochs": 0}])
def test_settings_out_of_range_are_refused(wrong):
    """By the name of their option, with the range."""
    with pytest.raises(ConfigError, match=f"{next(iter(wrong)).replace('_', '-')} must lie between .*, got"):
        OptimConfig(**wrong)


def kept_for_backward(network: MotivNet, pixels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The logits, and how many numbers besides parameters the encoder's forward pass keeps for the backward pass."""
    kept = []

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = network.forward_features((pixels - network.mean) / network.std)
    return network.forward_head(features), sum(kept)


@pytest.mark.parametrize("freeze_encoder", [False, True])
def test_what_trains(freeze_encoder):
    """Everything but the queries, or the head but for them; a frozen encoder keeps nothing for the backward pass."""
    network = golden_network(OptimConfig(freeze_encoder=freeze_encoder))
    pixels, targets = golden_batch(network)

    logits, kept = kept_for_backward(network, pixels)
    classification_loss(logits, targets).backward()

    names = {name for name, _ in network.named_parameters()} - {"head.queries"}
    expected = {name for name in names if name.startswith("head.") or not freeze_encoder}
    assert {name for name, each in network.named_parameters() if each.grad is not None} == expected
    assert (kept == 0) is freeze_encoder
    groups = {group["name"]: group["params"] for group in make_optimizer(network, OptimConfig()).param_groups}
    assert list(groups) == (["head"] if freeze_encoder else ["encoder", "head"])
    assert sum(len(params) for params in groups.values()) == len(expected)


def test_checkpointed_blocks_give_the_same_gradients():
    """And keep a small part for the backward pass: the tokens before each block."""
    gradients, kept = [], []
    for checkpoint_blocks in (False, True):
        network = golden_network(NO_DROPOUT)
        network.encoder.checkpoint_blocks = checkpoint_blocks
        pixels, targets = golden_batch(network)
        logits, numbers = kept_for_backward(network, pixels)
        classification_loss(logits, targets).backward()
        gradients.append({name: each.grad for name, each in network.named_parameters() if each.grad is not None})
        kept.append(numbers)

    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient)
    assert kept[1] < kept[0] / 5


def test_training_takes_torchs_attention():
    """Attention in blocks gives no gradient: a network that was set to it for inference trains all the same."""
    gradients = []
    for in_blocks in (False, True):
        network = golden_network(NO_DROPOUT)
        for block in network.encoder.blocks:
            block.attention.in_blocks = in_blocks
        pixels, targets = golden_batch(network)
        classification_loss(network(pixels)[0], targets).backward()
        gradients.append(network.encoder.blocks[0].attention.qkv.weight.grad)

    assert_close(gradients[1], gradients[0])
