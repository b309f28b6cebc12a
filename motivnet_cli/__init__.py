"""motivnet: emotions and embeddings for every face in a folder, written to Parquet.

What is exported here is the public API (docs/api.md). A name is imported when it is first used, so that
`import motivnet_cli` and `motivnet --help` wait for neither torch nor pyarrow.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motivnet_cli.config import (
        FaceConfig,
        InputConfig,
        LoaderConfig,
        ModelConfig,
        OutputConfig,
        RunConfig,
        ScaleConfig,
        VideoConfig,
    )
    from motivnet_cli.errors import (
        ConfigError,
        FetchError,
        InputError,
        MotivNetError,
        OutputConflictError,
        TrainingError,
        WeightsError,
        WorkerError,
    )
    from motivnet_cli.in_memory import PredictedFace, PredictedPicture, PredictedPictures, predict
    from motivnet_cli.output.read import read_faces, read_inputs, read_record
    from motivnet_cli.progress import tqdm_bar
    from motivnet_cli.records import Progress, Summary
    from motivnet_cli.run import annotate
    from motivnet_cli.shards import Shard
    from motivnet_cli.weights.load import LoadedModel, load_model
    from motivnet_cli.weights.networks import load_checkpoint

__version__ = "0.1.0"

# onnxruntime 1.29 and newer send telemetry for every session and keep a machine id in the user's cache folder. It
# reads this variable when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "ConfigError",
    "FaceConfig",
    "FetchError",
    "InputConfig",
    "InputError",
    "LoadedModel",
    "LoaderConfig",
    "ModelConfig",
    "MotivNetError",
    "OutputConfig",
    "OutputConflictError",
    "PredictedFace",
    "PredictedPicture",
    "PredictedPictures",
    "Progress",
    "RunConfig",
    "ScaleConfig",
    "Shard",
    "Summary",
    "TrainingError",
    "VideoConfig",
    "WeightsError",
    "WorkerError",
    "__version__",
    "annotate",
    "load_checkpoint",
    "load_model",
    "predict",
    "read_faces",
    "read_inputs",
    "read_record",
    "tqdm_bar",
]

_EXPORTED_FROM = {
    "config": (
        "FaceConfig",
        "InputConfig",
        "LoaderConfig",
        "ModelConfig",
        "OutputConfig",
        "RunConfig",
        "ScaleConfig",
        "VideoConfig",
    ),
    "errors": (
        "ConfigError",
        "FetchError",
        "InputError",
        "MotivNetError",
        "OutputConflictError",
        "TrainingError",
        "WeightsError",
        "WorkerError",
    ),
    "in_memory": ("PredictedFace", "PredictedPicture", "PredictedPictures", "predict"),
    "output.read": ("read_faces", "read_inputs", "read_record"),
    "progress": ("tqdm_bar",),
    "records": ("Progress", "Summary"),
    "run": ("annotate",),
    "shards": ("Shard",),
    "weights.load": ("LoadedModel", "load_model"),
    "weights.networks": ("load_checkpoint",),
}
_MODULE_OF = {name: module for module, names in _EXPORTED_FROM.items() for name in names}

if not TYPE_CHECKING:  # a type checker that sees this function accepts every name, also a misspelt one

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
