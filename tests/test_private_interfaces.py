"""What is said where a dependency has lost a name that it never promised (docs/decisions/0014)."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import fsspec
import pytest
import torch

from motivnet_cli.config import ModelConfig
from motivnet_cli.engine.predictor import Predictor
from motivnet_cli.errors import ConfigError
from motivnet_cli.records import never
from motivnet_cli.remote.files import read_bytes
from motivnet_cli.scale.ray_session import Session
from motivnet_cli.weights.load import load_model


@pytest.fixture
def bare_ray(monkeypatch):
    """A Ray of which nothing is left but what it promises; it does not start."""

    def init(**_options):
        raise RuntimeError("no")

    ray = ModuleType("ray")
    ray.__version__ = "9.0"
    ray.is_initialized = lambda: False
    ray.init = init
    ray.job_config = SimpleNamespace(JobConfig=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray._private.services", None)


def test_ray_that_cannot_be_kept_from_printing(bare_ray, caplog):
    """The run goes on with a warning."""
    with pytest.raises(ConfigError, match="Ray does not start here: no"):
        Session(None).open(never)

    assert "Ray 9.0 cannot be kept from printing" in caplog.text


def test_ray_that_does_not_say_where_auto_is(bare_ray):
    """The user is asked for the address."""
    with pytest.raises(ConfigError, match=r"at 'auto' \(Ray 9\.0 does not say where `auto` is: give HOST:PORT\)"):
        Session("auto").open(never)


def quantized(**options):
    return Predictor(load_model("expression-net"), ModelConfig(name="expression-net", precision="int8", **options))


def test_torch_without_quantization_asks_for_torchao(monkeypatch):
    """The version is named, and what to install or use in place of int8; so it is where the network is compiled."""
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ConfigError, match=r"int8 with --compile needs torchao: pip install 'motivnet-cli\[int8\]', or"):
        quantized(compile=True)

    monkeypatch.setitem(sys.modules, "torch.ao.quantization", None)
    with pytest.raises(
        ConfigError, match=r"int8 with torch \d.* needs torchao: pip install 'motivnet-cli\[int8\]', or"
    ):
        quantized()


def test_torch_without_quantization_leaves_it_to_torchao(monkeypatch):
    """Layers are replaced in place, and answers stay close to those in fp32."""
    pytest.importorskip("torchao")
    pixels = torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = load_model("expression-net").network(pixels)[0].softmax(1)
    monkeypatch.setitem(sys.modules, "torch.ao.quantization", None)
    model = load_model("expression-net")
    Predictor(model, ModelConfig(name="expression-net", precision="int8"))

    with torch.inference_mode():
        difference = (model.network(pixels)[0].softmax(1) - expected).abs().max()

    assert 0 < difference < 0.05


def test_fsspec_without_its_hooks(monkeypatch):
    """Files are found as fsspec itself finds them."""
    fsspec.filesystem("memory").pipe("/bucket/a.bin", b"content")
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda _: object)
    try:
        assert read_bytes("memory://bucket/a.bin", max_bytes=100) == b"content"
    finally:
        fsspec.filesystem("memory").store.clear()
