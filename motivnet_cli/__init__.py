"""motivnet: emotions and embeddings for every face in a folder, written to Parquet.

This file imports nothing heavy, so that `motivnet --help` answers at once; import what runs from its room:
`from motivnet_cli.annotate import annotate`, `from motivnet_cli.weights.load import load_model`.
"""

import os

from motivnet_cli.errors import (
    ConfigError,
    FetchError,
    InputError,
    MotivNetError,
    OutputConflictError,
    WeightsError,
)

__version__ = "0.1.0"

# From 1.29 onnxruntime tells Microsoft of every session that it opens, and keeps an identity of the machine for it in
# the user's cache folder; it looks at this when it is first imported. Nobody is to be told of a run.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "ConfigError",
    "FetchError",
    "InputError",
    "MotivNetError",
    "OutputConflictError",
    "WeightsError",
    "__version__",
]
