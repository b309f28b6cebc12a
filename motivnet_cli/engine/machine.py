"""What this machine has: cores, memory, devices, and the precisions that they compute in."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from motivnet_cli.config import ModelConfig, Precision
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the settings come to on this machine."""

    device: torch.device
    precision: str
    """fp32, bf16, fp16 or int8."""
    flip: bool
    device_name: str
    """For people."""

    @classmethod
    def of(cls, model: LoadedModel, config: ModelConfig) -> Choices:
        """The choices for a model.

        Raises:
            ConfigError: The device does not exist here, or cannot compute in the precision; or a head would be given
                other embeddings than it learned from.
        """
        if model.card.architecture == "head" and config.flip not in (None, model.card.flip):
            learned = "with" if model.card.flip else "without"
            raise ConfigError(
                f"{model.card.name} learned from embeddings {learned} mirror averaging, and classifies no others: "
                f"leave out {'--flip' if config.flip else '--no-flip'}"
            )
        device = choose_device(config.device)
        precision = choose_precision(config.precision, device, is_small=model.card.single_thread)
        flip = model.card.flip if config.flip is None else config.flip
        log.debug("device %s for --device %s: %s", device, config.device, _devices_in_words())
        log.debug("precision %s for --precision %s on %s", precision, config.precision, cpu_name())
        log.debug("mirror averaging: %s", "yes" if flip else "no")
        return cls(device, precision, flip, device_name(device))


def choose_precision(wanted: Precision, device: torch.device, *, is_small: bool) -> str:
    """The precision that `wanted` comes to on a device: fp32, bf16, fp16 or int8.

    `auto` is bf16 on a GPU that has it, and fp16 on an older one; on a CPU bf16 only where the CPU multiplies in it
    (AMX or AVX512-BF16: without them it is 100 times slower), else fp32. A small network stays at fp32.

    Raises:
        ConfigError: The device cannot compute in it.
    """
    if wanted == "int8" and device.type != "cpu":
        raise ConfigError(f"--precision int8 is for CPUs, and this run is on {device}; use bf16 or fp16")
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigError("--precision fp16 is for GPUs; on a CPU use fp32 or int8")
    if wanted != "auto":
        return wanted
    if is_small or device.type == "mps":
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if cpu_has_bf16() else "fp32"


# ---- cores and memory -------------------------------------------------------------------------------------


def cpu_name() -> str:
    """The processor as its maker calls it; where the system does not say, its architecture."""
    names = (line.partition(": ")[2] for line in _cpu_info() if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies matrices in bf16 by itself, as Linux lists its features."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(_cpu_features())


def has_bf16_without_amx() -> bool:
    """Whether this CPU multiplies in bf16, but torch's attention, which then goes through MKL, does not."""
    return "avx512_bf16" in _cpu_features() and "amx_bf16" not in _cpu_features()


def compiled_code_key() -> str:
    """A name for the code that torch compiles here: it fits no other instructions, and no other torch.

    torch itself keeps code apart by less: with one folder for AVX-512 and AVX2 it loads what gives other numbers.
    """
    known_by = (torch.__version__, torch.backends.cpu.get_cpu_capability(), cpu_name(), *_cpu_features())
    return hashlib.sha256("\n".join(known_by).encode()).hexdigest()[:16]


def _cpu_features() -> list[str]:
    """The instructions of the first core, as Linux lists them; none elsewhere."""
    lists = (line.partition(":")[2] for line in _cpu_info() if line.startswith(("flags", "Features")))
    return next(lists, "").split()


def _cpu_info() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def usable_cores() -> int:
    """How many cores this process may use: affinity, and the quota of its control group (cgroup v2 and v1)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = core_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def core_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """How many cores' worth of time the control group grants; None without a limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = (root / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None


def divide_cores(num_processes: int) -> list[set[int]]:
    """Disjoint sets of cores, one for each process; empty where there are too few, or where the system pins none."""
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(num_processes)]
    cores = sorted(os.sched_getaffinity(0))
    step, share = len(cores) // num_processes, max(1, usable_cores() // num_processes)
    return [set(cores[number * step :][:step][:share]) for number in range(num_processes)]


def memory_bytes() -> tuple[int, int] | None:
    """The memory of this machine, and how much of it is available now; None where Linux does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kibibytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return kibibytes["MemTotal"] << 10, kibibytes["MemAvailable"] << 10


# ---- devices ----------------------------------------------------------------------------------------------


def all_gpus() -> tuple[str, ...]:
    """The CUDA devices that torch sees here."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(f"cuda:{number}" for number in range(count))


def all_devices() -> tuple[torch.device, ...]:
    """Every device on which a network can run here, the CPU first."""
    names = ["cpu", *all_gpus(), *(["mps"] if torch.backends.mps.is_available() else [])]
    return tuple(map(torch.device, names))


def device_name(device: torch.device) -> str:
    """The device in words, for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _devices_in_words() -> str:
    return f"torch {torch.__version__} sees {', '.join(map(str, all_devices()))}"


def choose_device(wanted: str) -> torch.device:
    """The device of a setting such as `cuda:1`; of `auto` the current CUDA device, else MPS, else the CPU.

    Raises:
        ConfigError: It does not exist here.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda":
        count = len(all_gpus())
        if (device.index or 0) >= count:
            raise ConfigError(
                f"device {wanted!r} was asked for, but torch sees {count} CUDA devices here; "
                "use --device cpu, or check the driver and CUDA_VISIBLE_DEVICES"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' was asked for, but this machine has none; use --device cpu")
    return device
