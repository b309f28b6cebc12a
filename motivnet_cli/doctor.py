"""What this machine gives a run: one page for a bug report.

It looks and changes nothing, but for one temporary file whose writing is timed. No value of an environment variable
is shown unless it is named in ENVIRONMENT, so that the page can be posted.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import av
import torch
from PIL import features

from motivnet_cli import __version__
from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
from motivnet_cli.engine.machine import (
    all_devices,
    choose_precision,
    cpu_has_bf16,
    cpu_name,
    memory_bytes,
    usable_cores,
)
from motivnet_cli.weights.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import NotRequired

PACKAGES = (
    "torch", "torchvision", "numpy", "pyarrow", "polars", "pillow", "pi-heif", "av", "decord", "onnxruntime",
    "safetensors", "scipy", "scikit-learn", "typer", "rich", "fsspec", "huggingface_hub", "s3fs", "ray",
)  # fmt: skip
ENVIRONMENT = (
    "MOTIVNET_HOME", "MOTIVNET_OFFLINE", "MOTIVNET_DEBUG", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_PROCID", "SLURM_NTASKS",
    "SLURM_CPUS_PER_TASK", "TMPDIR",
)  # fmt: skip
DECODERS = ("h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4")
DISK_MEGABYTES = 64
"""Written to time a disk."""
MIN_DISK_BYTES = 1 << 30
MIN_SHARED_MEMORY = 256 << 20
"""Two frames of 8K video need 200 MB."""


class Processor(TypedDict):
    name: str
    instructions: str
    """The vector instructions that torch uses, such as AVX2."""
    bf16: bool
    cores: int | None
    usable_cores: int
    memory_bytes: int | None
    available_bytes: int | None


class Device(TypedDict):
    device: str
    auto_precision: str
    """What `--precision auto` comes to for a large network."""
    name: NotRequired[str]
    """This and what follows are of a GPU."""
    memory_bytes: NotRequired[int]
    compute_capability: NotRequired[str]
    cuda: NotRequired[str | None]


class Codecs(TypedDict):
    images: dict[str, bool | None]
    videos: dict[str, bool]
    ffmpeg: dict[str, str]
    """Versions of its libraries."""


class Space(TypedDict):
    folder: str
    bytes: int
    free_bytes: int


class Disk(Space):
    write_megabytes_per_s: float | None
    error: NotRequired[str | None]
    """Why it cannot be written."""


class StoredWeights(TypedDict):
    bytes: int
    sha256: str


class ModelStore(TypedDict):
    root: str
    models: dict[str, StoredWeights]


class Findings(TypedDict):
    """What there is, as values for JSON."""

    motivnet: str
    python: str
    system: str
    packages: dict[str, str | None]
    processor: Processor
    devices: list[Device]
    codecs: Codecs
    shared_memory: Space | None
    disk: Disk
    limits: dict[str, int | None]
    store: ModelStore
    environment: dict[str, str]


class Examination(Findings):
    """The page of `motivnet doctor`, as values for JSON."""

    remarks: list[str]
    """Sentences on what will slow or stop a run."""


def examine(*, store: str | None = None, folder: str = ".") -> Examination:
    """Versions, cores and memory, devices with their precisions, codecs, disks, store, and what looks wrong.

    Args:
        store: Folder of the model store; None takes the default.
        folder: Where outputs would be written; its disk is timed.
    """
    found: Findings = {
        "motivnet": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "devices": [_device(device) for device in all_devices()],
        "codecs": _codecs(),
        "shared_memory": _space("/dev/shm") if Path("/dev/shm").is_dir() else None,
        "disk": _disk(folder),
        "limits": _limits(),
        "store": _store(store),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }
    return {**found, "remarks": list(_remarks(found))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> Processor:
    total, available = memory_bytes() or (None, None)
    return {
        "name": cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": cpu_has_bf16(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": total,
        "available_bytes": available,
    }


def _device(device: torch.device) -> Device:
    about: Device = {"device": str(device), "auto_precision": choose_precision("auto", device, is_small=False)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about["name"] = properties.name
        about["memory_bytes"] = properties.total_memory
        about["compute_capability"] = f"{properties.major}.{properties.minor}"
        about["cuda"] = torch.version.cuda
    return about


def _codecs() -> Codecs:
    images = {name: features.check(name) for name in ("jpg", "libjpeg_turbo", "zlib", "webp", "avif", "jpg_2000")}
    return {
        "images": images | {"heif": _version("pi-heif") is not None},
        "videos": {name: name in av.codecs_available for name in DECODERS},
        "ffmpeg": {name: ".".join(map(str, number)) for name, number in av.library_versions.items()},
    }


def _disk(folder: str) -> Disk:
    space = _space(folder)
    try:
        rate = _write_rate(folder)
    except OSError as error:
        return {**space, "write_megabytes_per_s": None, "error": error.strerror}
    return Disk(
        folder=space["folder"], bytes=space["bytes"], free_bytes=space["free_bytes"], write_megabytes_per_s=rate
    )


def _write_rate(folder: str) -> float:
    """Megabytes a second at which a file is written and synced, as a run does it; it holds for this moment."""
    block = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".motivnet-doctor-") as file:
        started = time.perf_counter()
        for _ in range(DISK_MEGABYTES):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return round(DISK_MEGABYTES / (time.perf_counter() - started), 1)


def _space(folder: str) -> Space:
    usage = shutil.disk_usage(folder)
    return {"folder": str(Path(folder).absolute()), "bytes": usage.total, "free_bytes": usage.free}


def _limits() -> dict[str, int | None]:
    """What the system lets this process have; None without a limit."""
    limits = {
        "open_files": resource.RLIMIT_NOFILE,
        "address_space": resource.RLIMIT_AS,
        "processes": resource.RLIMIT_NPROC,
    }
    values = {name: resource.getrlimit(number)[0] for name, number in limits.items()}
    return {name: None if value == resource.RLIM_INFINITY else value for name, value in values.items()}


def _store(root: str | None) -> ModelStore:
    store = Store(root)
    models = store.models()
    return {
        "root": str(store.root),
        "models": {model.name: {"bytes": model.size_bytes, "sha256": model.sha256} for model in models},
    }


def _remarks(found: Findings) -> Iterator[str]:
    """What will stop a run, then what will slow it; each with what to do, where something can be done."""
    processor, disk, shared = found["processor"], found["disk"], found["shared_memory"]
    if "error" in disk:
        yield f"{disk['folder']} cannot be written: {disk['error']}; name another folder with --out"
    elif disk["free_bytes"] < MIN_DISK_BYTES:
        yield f"{disk['folder']} has only {disk['free_bytes'] / 1e6:.0f} MB free: make room, or use another folder"
    if DEFAULT_MODEL not in found["store"]["models"]:
        size = f"{(CARDS[DEFAULT_MODEL].download_bytes or 0) / 1e9:.1f} GB"
        yield f"MotivNet's weights are not in the store: motivnet download-weights ({size}); expression-net needs none"
    if shared and shared["free_bytes"] < MIN_SHARED_MEMORY:
        yield f"/dev/shm has only {shared['free_bytes'] / 1e6:.0f} MB free: start the container with --shm-size 1g"
    missing = [
        name for name, known in found["codecs"]["videos"].items() if not known and name not in ("av1", "libdav1d")
    ]
    if missing:
        yield f"videos in {', '.join(missing)} cannot be decoded: reinstall PyAV (pip install --force-reinstall av)"
    if all(device["device"] == "cpu" for device in found["devices"]):
        yield "torch sees no GPU, so runs are on the CPU: two cores take ten seconds to minutes a face with motivnet-1b"
        if not processor["bf16"]:
            yield "the processor does not multiply in bf16, so motivnet-1b runs in fp32"
    if processor["usable_cores"] < (processor["cores"] or 1):
        yield f"this process may use {processor['usable_cores']} of {processor['cores']} cores"
    if sys.version_info < (3, 11):
        yield f"Python {found['python']} is older than what is tested most"
