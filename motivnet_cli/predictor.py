"""Batches -> predictions: the one room that knows devices.

It does not know where faces come from or where rows go. Results lag one batch behind, so that on a GPU the
copies and the writing of one batch overlap the computing of the next; on a CPU the same path runs in order.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from motivnet_cli.config import ModelConfig
    from motivnet_cli.load import LoadedModel
    from motivnet_cli.records import Batch

GPU_BATCH_SIZE = 16
"""Throughput of vision transformers of this size is published as flat beyond it (docs/performance.md)."""


class Predictor:
    """A network on its device.

    Args:
        model: From `load.load_model`; its network is moved to the device.
        config: Device, batch size, mirror averaging.

    Raises:
        ConfigError: The device does not exist here.
    """

    def __init__(self, model: LoadedModel, config: ModelConfig) -> None:
        self.device = _choose_device(config.device)
        self.num_threads = 1 if model.card.single_thread else usable_cores()
        automatic = model.card.cpu_batch_size if self.device.type == "cpu" else GPU_BATCH_SIZE
        self.batch_size = config.batch_size or automatic
        self.flip = model.card.flip if config.flip is None else config.flip
        self._network = model.network.to(self.device)

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Prediction | None]]:
        """Each batch with its prediction, in order; a batch without faces comes back with None."""
        torch.set_num_threads(self.num_threads)
        launched: tuple[Batch, tuple[Tensor, Tensor] | None] | None = None
        for batch in batches:
            previous, launched = launched, (batch, self._launch(batch))
            if previous:
                yield _collect(*previous)
        if launched:
            yield _collect(*launched)

    @torch.inference_mode()
    def _launch(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        if not batch.crops:
            return None
        stacked = torch.from_numpy(np.stack([crop.pixels for crop in batch.crops]))
        if self.device.type == "cuda":
            stacked = stacked.pin_memory()
        pixels = stacked.to(self.device, non_blocking=True)
        views = [pixels, pixels.flip(-1)] if self.flip else [pixels]
        outputs = [self._network(view) for view in views]
        probabilities = torch.stack([logits.softmax(-1) for logits, _ in outputs]).mean(0)
        embeddings = torch.stack([embedding for _, embedding in outputs]).mean(0)
        return probabilities, embeddings


def _collect(batch: Batch, results: tuple[Tensor, Tensor] | None) -> tuple[Batch, Prediction | None]:
    if results is None:
        return batch, None
    probabilities, embeddings = results
    return batch, Prediction(probabilities.float().cpu().numpy(), embeddings.float().cpu().numpy())


def usable_cores() -> int:
    """How many cores this process may run on: what the scheduler gave, not what the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """The device in words, for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _choose_device(wanted: str) -> torch.device:
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(
                f"device {wanted!r} was asked for, but torch sees {count} CUDA devices here; "
                "use --device cpu, or check the driver and CUDA_VISIBLE_DEVICES"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' was asked for, but this machine has none; use --device cpu")
    return device
