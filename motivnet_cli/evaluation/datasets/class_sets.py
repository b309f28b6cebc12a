"""Sets that are folders named by class and nothing more: MMAFEDB and CAER-S."""

from __future__ import annotations

from motivnet_cli.evaluation.datasets.by_class import class_folder_layout

MMAFEDB_LAYOUTS = (class_folder_layout(),)
CAERS_LAYOUTS = (class_folder_layout(),)
