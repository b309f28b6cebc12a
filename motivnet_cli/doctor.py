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
from typing import TYPE_CHECKING, Any

import av
import torch
from PIL import features

from motivnet_cli import __version__
from motivnet_cli.engine.machine import choose_precision, cpu_has_bf16, usable_cores
from motivnet_cli.weights.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

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
LEAST_SHARED_MEMORY = 256 << 20
"""Two frames of 8K video need 200 MB."""


def examine(*, store: str | None = None, folder: str = ".") -> dict[str, Any]:
    """Versions, cores and memory, devices with their precisions, codecs, disks, store, and what looks wrong.

    Args:
        store: Folder of the model store; None takes the default.
        folder: Where outputs would be written; its disk is timed.

    Returns:
        Values for JSON; `remarks` lists, in sentences, what will slow or stop a run.
    """
    found: dict[str, Any] = {
        "motivnet": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "devices": list(_devices()),
        "codecs": _codecs(),
        "shared_memory": _space("/dev/shm") if Path("/dev/shm").is_dir() else None,
        "disk": _disk(folder),
        "limits": _limits(),
        "store": _store(store),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }
    return found | {"remarks": list(_remarks(found))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    memory = None
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), name)
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        memory = {key: int(fields[key].split()[0]) << 10 for key in ("MemTotal", "MemAvailable")}
    except OSError:
        pass
    return {
        "name": name,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": cpu_has_bf16(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": memory and memory["MemTotal"],
        "available_bytes": memory and memory["MemAvailable"],
    }


def _devices() -> Iterator[dict[str, Any]]:
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for name in [*names, *(["mps"] if torch.backends.mps.is_available() else [])]:
        device = torch.device(name)
        about: dict[str, Any] = {"device": name, "auto_precision": choose_precision("auto", device, is_small=False)}
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            about |= {
                "name": properties.name,
                "memory_bytes": properties.total_memory,
                "compute_capability": f"{properties.major}.{properties.minor}",
                "cuda": torch.version.cuda,
            }
        yield about


def _codecs() -> dict[str, Any]:
    images = {name: features.check(name) for name in ("jpg", "libjpeg_turbo", "zlib", "webp", "avif", "jpg_2000")}
    return {
        "images": images | {"heif": _version("pi-heif") is not None},
        "videos": {name: name in av.codecs_available for name in DECODERS},
        "ffmpeg": {name: ".".join(map(str, number)) for name, number in av.library_versions.items()},
    }


def _disk(folder: str) -> dict[str, Any]:
    """A part is written and synced as a run does it, and timed; the rates are of this moment."""
    block = os.urandom(1 << 20)
    space = _space(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".motivnet-doctor-") as file:
            started = time.perf_counter()
            for _ in range(DISK_MEGABYTES):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            rate = DISK_MEGABYTES / (time.perf_counter() - started)
    except OSError as error:
        return space | {"write_megabytes_per_s": None, "error": error.strerror}
    return space | {"write_megabytes_per_s": round(rate, 1)}


def _space(folder: str) -> dict[str, Any]:
    usage = shutil.disk_usage(folder)
    return {"folder": str(Path(folder).absolute()), "bytes": usage.total, "free_bytes": usage.free}


def _limits() -> dict[str, Any]:
    limits = {
        "open_files": resource.RLIMIT_NOFILE,
        "address_space": resource.RLIMIT_AS,
        "processes": resource.RLIMIT_NPROC,
    }
    values = {name: resource.getrlimit(number)[0] for name, number in limits.items()}
    return {name: None if value == resource.RLIM_INFINITY else value for name, value in values.items()}


def _store(root: str | None) -> dict[str, Any]:
    store = Store(root)
    models = {model.name: {"bytes": model.size_bytes, "sha256": model.sha256} for model in store.models()}
    return {"root": str(store.root), "models": models}


def _remarks(found: dict[str, Any]) -> Iterator[str]:
    processor, disk, shared = found["processor"], found["disk"], found["shared_memory"]
    if processor["usable_cores"] < (processor["cores"] or 1):
        yield f"this process may use {processor['usable_cores']} of {processor['cores']} cores"
    if all(device["device"] == "cpu" for device in found["devices"]):
        yield "torch sees no GPU: motivnet-1b takes a minute or more a face on a CPU"
    if shared and shared["free_bytes"] < LEAST_SHARED_MEMORY:
        yield f"/dev/shm has only {shared['free_bytes'] / 1e6:.0f} MB free (in containers: --shm-size)"
    if "error" in disk:
        yield f"{disk['folder']} cannot be written: {disk['error']}"
    elif disk["free_bytes"] < 1 << 30:
        yield f"{disk['folder']} has only {disk['free_bytes'] / 1e6:.0f} MB free"
    missing = [
        name for name, known in found["codecs"]["videos"].items() if not known and name not in ("av1", "libdav1d")
    ]
    if missing:
        yield f"videos in {', '.join(missing)} cannot be decoded"
    if not found["store"]["models"]:
        yield "no model is in the store: motivnet download-weights brings one (expression-net is inside the package)"
    if sys.version_info < (3, 11):
        yield f"Python {found['python']} is older than what is tested most"
