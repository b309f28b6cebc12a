"""Low-rank adapters: what they compute, that they alone train, and that merged they are gone and nothing changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from motivnet_cli.errors import ConfigError
from motivnet_cli.model import MotivNet, MotivNetSizes
from motivnet_cli.training.adapters import LoraLinear, merge_adapters
from motivnet_cli.training.config import AdapterConfig, OptimConfig
from motivnet_cli.training.optim import classification_loss, make_optimizer, prepare

TINY = MotivNetSizes(width=32, depth=2, heads=4, mlp=64, decoder_width=32, decoder_ffn=48, grid_height=8, grid_width=6)
ALL_LAYERS = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")


def random_network() -> MotivNet:
    network = MotivNet(TINY)
    generator = torch.Generator().manual_seed(7)
    network.head.reset_parameters(generator)
    for parameter in network.encoder.parameters():
        nn.init.normal_(parameter, 0, 0.3, generator=generator)
    return network


def adapted(network: MotivNet, **settings: object) -> OptimConfig:
    """The settings of a training whose adapters the network now has."""
    config = OptimConfig(adapters=AdapterConfig(learning_rate=0.02, **settings), head_lr=1e-3)
    prepare(network, config, generator=torch.Generator().manual_seed(1))
    return config


def pixels_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    pixels = torch.randint(0, 256, (3, 3, 128, 96), dtype=torch.uint8, generator=generator)
    return pixels, torch.eye(7)[[1, 4, 6]]


def train(network: MotivNet, config: OptimConfig, *, steps: int) -> None:
    pixels, targets = pixels_and_targets()
    optimizer = make_optimizer(network.train(), config)
    for _ in range(steps):
        optimizer.zero_grad()
        classification_loss(network(pixels)[0], targets).backward()
        optimizer.step()


def test_an_adapter_by_hand():
    """W x + b + alpha / rank B A x, with A drawn in its bounds and B zero at first."""
    generator = torch.Generator().manual_seed(5)
    base = nn.Linear(48, 10)
    x = torch.randn(4, 48, generator=generator)
    layer = LoraLinear(base, rank=16, alpha=24, generator=generator)

    assert torch.equal(layer(x), base(x))
    bound = 48**-0.5  # sqrt(6 / ((1 + 5) * 48)), Kaiming's rule with a slope of sqrt(5)
    assert 0.95 * bound < layer.lora_a.abs().max() <= bound
    nn.init.normal_(layer.lora_b, generator=generator)

    assert_close(layer(x), base(x) + 1.5 * (x @ layer.lora_a.T @ layer.lora_b.T))


@pytest.mark.parametrize("layers", [ALL_LAYERS[:2], ALL_LAYERS])
def test_merged_equals_apart(layers):
    """After steps of training, within float32; the names are those of a network without adapters."""
    network = random_network()
    names = set(network.state_dict())
    pixels, _ = pixels_and_targets()
    with torch.no_grad():
        before = network.eval()(pixels)[1]
    config = adapted(network, layers=layers)
    assert len(set(network.state_dict()) - names) == 2 * 2 * len(layers)
    with torch.no_grad():
        assert torch.equal(network(pixels)[1], before)
    train(network, config, steps=3)
    with torch.no_grad():
        logits, embedding = network.eval()(pixels)

    merge_adapters(network)

    with torch.no_grad():
        merged_logits, merged_embedding = network(pixels)
    assert (embedding - before).abs().max() > 1e-2  # they have learned something
    assert_close(merged_logits, logits, atol=1e-4, rtol=1e-4)
    assert_close(merged_embedding, embedding, atol=1e-4, rtol=1e-4)
    assert set(network.state_dict()) == names
    assert not any(isinstance(module, LoraLinear) for module in network.modules())


def test_adapters_and_head_alone_train():
    """The encoder's own tensors stay bit for bit, the queries too; every other tensor moves."""
    network = random_network()
    config = adapted(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    train(network, config, steps=2)

    after = network.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    trains = {name for name in before if name.startswith("head.") or ".lora_" in name}
    assert moved == trains - {"head.queries"}
    assert [group["name"] for group in make_optimizer(network, config).param_groups] == ["adapters", "head"]
    assert [group["lr"] for group in make_optimizer(network, config).param_groups] == [0.02, 1e-3]


@pytest.mark.parametrize("layers", [(), ("attention.qkv", "attention.qkv"), ("attention.q",)])
def test_layers_that_cannot_have_an_adapter(layers):
    """None, one twice, and one that a block does not have."""
    with pytest.raises(ConfigError, match=r"adapters go on some of attention\.qkv, .*, each once, got"):
        AdapterConfig(layers=layers)
