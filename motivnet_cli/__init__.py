"""motivnet: emotions and embeddings for every face in a folder, written to Parquet.

This file imports nothing heavy, so that `motivnet --help` answers at once; import what runs from its room:
`from motivnet_cli.annotate import annotate`, `from motivnet_cli.load import load_model`.
"""

from motivnet_cli.errors import (
    ConfigError,
    FetchError,
    InputError,
    MotivNetError,
    OutputConflictError,
    WeightsError,
)

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "FetchError",
    "InputError",
    "MotivNetError",
    "OutputConflictError",
    "WeightsError",
    "__version__",
]
