"""Batches -> predictions: the network on its device.

It does not know where faces come from or where rows go. Results lag one batch behind, so that on a GPU the
copies and the writing of one batch overlap the computing of the next; on a CPU the same path runs in order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from motivnet_cli.durable import TemporaryFolder, is_private, write_at_once
from motivnet_cli.engine.machine import Choices, compiled_code_key, has_bf16_without_amx, usable_cores
from motivnet_cli.errors import ConfigError, first_line
from motivnet_cli.model import EmbeddingClassifier, SapiensEmbedder, parent_of
from motivnet_cli.model.sapiens import SelfAttention
from motivnet_cli.records import PHASE, Prediction
from motivnet_cli.weights.dtypes import to_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from motivnet_cli.config import ModelConfig
    from motivnet_cli.records import Batch, Crop
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)
_GIVEN_CODE_FOLDER = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
"""Where the user has torch keep compiled code. Looked up before torch does, which sets the variable by itself."""
MAX_AUTO_BATCH = 64
"""The largest batch that is chosen unasked. Throughput of vision transformers of this size is published as flat well
before it (docs/performance.md)."""
_BATCH_SIZES = {2**power for power in range(MAX_AUTO_BATCH.bit_length())}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
"""In which numbers a network computes at each precision; int8 only multiplies in other ones."""
_CONVERTED: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
"""The precision of each network that a Predictor has converted: what a conversion loses, no second one brings back."""
_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""How the RuntimeError of torch's CPU allocator begins; other devices raise torch.OutOfMemoryError."""


@dataclass(slots=True)
class Stages:
    """Where the time of a run went, in seconds."""

    waiting: float = 0.0
    """For faces: reading, decoding, detecting and cropping were slower than the network."""
    computing: float = 0.0
    """The network, from the hand-over of a batch to its result, less what overlaps."""
    writing: float = 0.0
    """What was done with the results between two batches."""
    starting: float = 0.0
    """Until the first batch was there."""
    finishing: float = 0.0
    """From the last result to the output in its place."""

    @property
    def busy(self) -> float:
        """Share of the time in which the device computed, 0 to 1."""
        total = sum(dataclasses.astuple(self))
        return self.computing / total if total else 0.0

    def __add__(self, other: Stages) -> Stages:
        return Stages(*map(sum, zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    @property
    def bound_by(self) -> str | None:
        """The stage that the others waited for once all ran; None of a run of one batch, which says nothing of it."""
        if not (self.waiting or self.writing):
            return None
        named = {"reading": self.waiting, "network": self.computing, "writing": self.writing}
        return max(named, key=lambda name: named[name])


class Predictor:
    """A network on its device, at its precision.

    Args:
        model: From `load_model`; its network is moved to the device, and converted in place.
        config: Device, precision, compilation, batch size, mirror averaging.
        cache: Folder in which the batch sizes that fit a device are remembered, and compiled networks, by processor.
        num_threads: On a CPU; None takes the cores that this process may use.

    Raises:
        ConfigError: The device does not exist here, or cannot compute in the precision, or the network was converted to
            another one before.
    """

    def __init__(
        self, model: LoadedModel, config: ModelConfig, *, cache: Path | None = None, num_threads: int | None = None
    ) -> None:
        self.choices = Choices.of(model, config)
        before = _CONVERTED.setdefault(model.network, self.choices.precision)
        if before != self.choices.precision:
            raise ConfigError(
                f"this model is already converted to {before}, and cannot be brought to {self.choices.precision}: "
                "load it again, or give the same device and precision"
            )
        self.device = self.choices.device
        self.num_threads = 1 if model.card.single_thread else num_threads or usable_cores()
        self.stages = Stages()
        self.compile_s: float | None = None
        """Seconds that compiling took; None where nothing is compiled."""
        self._input_size = model.height, model.width
        self._mirrors = self.choices.flip and not isinstance(model.network, EmbeddingClassifier)
        """A head on embeddings is given their mean: its network mirrors by itself."""
        self._network: Callable[[Tensor], tuple[Tensor, Tensor]] = _at_precision(
            model.network.to(self.device), self.choices.precision, self.num_threads, is_compiled=config.compile
        )
        _compute_on(self.num_threads)
        if self.device.type == "cuda":  # fp32 means fp32: no TF32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.batch_size = config.batch_size or self._choose_batch_size(model, cache)
        self._pads = self.device.type != "cpu" or config.compile
        """Whether every batch has the same shape: kernels are chosen, and networks compiled, for a shape."""
        if config.compile:
            log.info("compiling the network", extra=PHASE)
            self._compile(cache)

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Prediction | None]]:
        """Each batch with its prediction, in order; a batch without faces comes back with None."""
        _compute_on(self.num_threads)
        launched: tuple[Batch, _Results | None] | None = None
        mark = time.monotonic()
        for batch in batches:
            started = time.monotonic()
            if launched is None:
                self.stages.starting += started - mark
            else:
                self.stages.waiting += started - mark
            previous, launched = launched, (batch, self._launch(batch.crops))
            self.stages.computing += time.monotonic() - started
            if previous:
                answer = self._collected(*previous)
                mark = time.monotonic()
                yield answer
                self.stages.writing += time.monotonic() - mark
            mark = time.monotonic()
        if launched:
            answer = self._collected(*launched)
            mark = time.monotonic()
            yield answer
            self.stages.finishing += time.monotonic() - mark

    def _collected(self, batch: Batch, results: _Results | None) -> tuple[Batch, Prediction | None]:
        started = time.monotonic()
        prediction = results.collect() if results else None
        self.stages.computing += time.monotonic() - started
        return batch, prediction

    def _launch(self, crops: Sequence[Crop]) -> _Results | None:
        """Start computing; where the device has no memory for so many, halve the batch and go on for good."""
        if not crops:
            return None
        parts = []
        start = 0
        while start < len(crops):
            part = crops[start : start + self.batch_size]
            try:
                parts.append(self._launch_part(part))
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size = max(1, self.batch_size // 2)
                log.warning(
                    "%s has no memory for %d faces at once: going on with %d", self.device, len(part), self.batch_size
                )
                continue
            start += len(part)
        return _Results(parts)

    def _launch_part(self, crops: Sequence[Crop]) -> _Part:
        num_rows = self.batch_size if self._pads else len(crops)
        on_gpu = self.device.type == "cuda"
        pixels = torch.empty((num_rows, 3, *self._input_size), dtype=torch.uint8, pin_memory=on_gpu)  # [B, 3, H, W]
        for row, crop in zip(pixels.numpy(), crops, strict=False):
            row[:] = crop.pixels
        pixels[len(crops) :] = 0
        probabilities, embeddings = self._forward(pixels.to(self.device, non_blocking=True))
        return _Part(len(crops), _to_host(probabilities), _to_host(embeddings), _mark_of(self.device), pixels)

    @torch.inference_mode()
    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, 3, H, W] on the device -> float32 probabilities [B, C] and embeddings [B, D]."""
        views = [pixels, pixels.flip(-1)] if self._mirrors else [pixels]
        outputs = [self._network(view) for view in views]
        probabilities = torch.stack([logits.float().softmax(-1) for logits, _ in outputs])  # [views, B, C]
        embeddings = torch.stack([embedding.float() for _, embedding in outputs])  # [views, B, D]
        return probabilities.mean(0), embeddings.mean(0)  # [B, C], [B, D]

    def _choose_batch_size(self, model: LoadedModel, cache: Path | None) -> int:
        if self.device.type == "cpu":
            return model.card.cpu_batch_size
        choices = self.choices
        key = f"{model.weights_sha256[:16]} {choices.device_name} {choices.precision} flip={choices.flip}"
        return remembered_batch_size(cache, key, self._fits)

    def _fits(self, batch_size: int) -> bool:
        pixels = torch.zeros((batch_size, 3, *self._input_size), dtype=torch.uint8, device=self.device)
        try:
            self._forward(pixels)[0].cpu()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _compile(self, cache: Path | None) -> None:
        if _GIVEN_CODE_FOLDER is None:
            self._code_folder = code_folder(cache)  # a temporary one goes with this object
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(getattr(self._code_folder, "path", self._code_folder))
        started = time.monotonic()
        self._network = torch.compile(self._network, fullgraph=True, dynamic=False)
        try:
            self._forward(torch.zeros((self.batch_size, 3, *self._input_size), dtype=torch.uint8, device=self.device))
        except Exception as error:  # whatever a compiler's tool chain says
            cause = getattr(error, "inner_exception", error)  # torch's own first line only says which backend it was
            raise ConfigError(f"--compile does not work here: {first_line(cause)}; leave it out") from error
        self.compile_s = time.monotonic() - started


def code_folder(cache: Path | None) -> Path | TemporaryFolder:
    """Where torch keeps the code that it compiles, and runs what lies there: a folder that nobody else can write.

    torch's own, below `TMPDIR`, has a name that anybody can take first. One in the cache is found again by the next
    run; where that is read-only, or others can write it, a temporary one is made.
    """
    if cache is None:
        return TemporaryFolder()
    folder = cache / "compiled" / compiled_code_key()
    with contextlib.suppress(OSError):  # a store may be read-only
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder if is_private(folder) and os.access(folder, os.W_OK) else TemporaryFolder()


def _compute_on(num_threads: int) -> None:
    """Have what this thread computes from now on divided among so many."""
    torch.set_num_threads(num_threads)
    # A thread that has not computed yet takes, when it begins, the number that any thread set last (those that read
    # pictures set 1), unless it has asked before.
    torch.get_num_threads()


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What was started for some faces; the pixels are kept until they are surely copied."""

    num_faces: int
    probabilities: Tensor
    embeddings: Tensor
    done: torch.cuda.Event | None
    pixels: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Results:
    parts: list[_Part]

    def collect(self) -> Prediction:
        """Wait for it."""
        for part in self.parts:
            if part.done is not None:
                part.done.synchronize()
        return Prediction(
            np.concatenate([part.probabilities[: part.num_faces].numpy() for part in self.parts]),  # [B, C]
            np.concatenate([part.embeddings[: part.num_faces].numpy() for part in self.parts]),  # [B, D]
        )


def _to_host(values: Tensor) -> Tensor:
    """A copy in the machine's memory, which on a GPU is only there after the mark that follows."""
    if values.device.type != "cuda":
        return values.cpu()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)


def _mark_of(device: torch.device) -> torch.cuda.Event | None:
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _at_precision(network: nn.Module, precision: str, num_threads: int, *, is_compiled: bool) -> nn.Module:
    """The network at a precision; its pixel statistics stay fp32, and inputs are normalised in fp32.

    A head on embeddings, which costs nothing, stays fp32, too.

    Raises:
        ConfigError: It needs torchao, which is not installed.
    """
    if precision == "int8":
        return _quantized(network, is_compiled=is_compiled)
    for part in parent_of(network).children():
        to_dtype(part, DTYPES[precision], num_threads=num_threads)
    for attention in network.modules():
        if isinstance(attention, SelfAttention):
            attention.in_blocks = (
                precision == "bf16" and attention.out.weight.device.type == "cpu" and has_bf16_without_amx()
            )
    return network


def _quantized(network: nn.Module, *, is_compiled: bool) -> nn.Module:
    """The network with linear layers that multiply in int8 (docs/decisions/0014-private-interfaces.md).

    Of a Sapiens network the encoder: its head takes weights apart, which layers in int8 do not allow. By torch itself
    while it can; by torchao, its successor, where it no longer can, and where the layers are to be compiled, which
    torch's own cannot be.
    """
    parent = parent_of(network)
    part = parent.encoder if isinstance(parent, SapiensEmbedder) else parent
    quantize_dynamic = None if is_compiled else _quantize_dynamic()
    if quantize_dynamic is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces its successor
            quantize_dynamic(part, {nn.Linear}, dtype=torch.qint8, inplace=True)
        return network
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        why = "--compile" if is_compiled else f"torch {torch.__version__}"
        raise ConfigError(
            f"--precision int8 with {why} needs torchao: pip install 'motivnet-cli[int8]', or use fp32 or bf16"
        ) from error
    quantize_(part, Int8DynamicActivationInt8WeightConfig())
    return network


def _quantize_dynamic() -> Callable[..., nn.Module] | None:
    """torch's own, deprecated function; None where it is gone."""
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError:
        return None
    found: Callable[..., nn.Module] = quantize_dynamic
    return found


def remembered_batch_size(cache: Path | None, key: str, fits: Callable[[int], bool]) -> int:
    """The largest batch that fits, found once for each `key`: a device, model and precision.

    Args:
        cache: Folder of what is remembered, a file for each key; where it cannot be written nothing is remembered.
            None remembers nothing.
        fits: Whether a batch of this size fits in the device's memory.
    """
    if cache is None:
        return largest_batch(fits)
    path = cache / "batch_sizes" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):  # not there yet, or not readable, or cut short
        known = json.loads(path.read_text())
        if isinstance(known, dict) and known.get("key") == key and known.get("batch_size") in _BATCH_SIZES:
            log.debug("the batch size is the one that %s remembers", path)
            return int(known["batch_size"])
    log.info("trying how many faces fit at once", extra=PHASE)
    size = largest_batch(fits)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_at_once(path, json.dumps({"key": key, "batch_size": size}))
    except OSError as error:
        log.info("the batch size is not remembered: %s", error)
    return size


def largest_batch(fits: Callable[[int], bool]) -> int:
    """The largest power of two, at most MAX_AUTO_BATCH, that fits; 1 is taken to fit."""
    size = 1
    while size < MAX_AUTO_BATCH and fits(2 * size):
        size *= 2
    return size


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says so of a device, or of this machine."""
    return isinstance(error, torch.OutOfMemoryError) or _CPU_OUT_OF_MEMORY in str(error)
