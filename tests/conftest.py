"""What every test shares: the GPU gate, and the versions that matter in the report's header."""

from __future__ import annotations

import os
import signal
from importlib.metadata import version

import pytest


def pytest_report_header():
    names = ("torch", "torchvision", "onnxruntime", "pillow", "pyarrow", "polars", "typer")
    return "versions: " + ", ".join(f"{name} {version(name)}" for name in names)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            if os.environ.get("MOTIVNET_REQUIRE_GPU"):
                pytest.fail("MOTIVNET_REQUIRE_GPU is set and torch sees no CUDA device")
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def signal_handlers_restored():
    """A command that runs in this process leaves its handlers behind, as it does in its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
