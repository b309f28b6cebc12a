"""A model name or a checkpoint file -> a network with its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["load_checkpoint"]

if TYPE_CHECKING:
    from motivnet_cli.weights.networks import load_checkpoint
else:

    def __getattr__(name: str) -> object:
        """Import torch when `load_checkpoint` is used, not when the model store is."""
        if name != "load_checkpoint":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from motivnet_cli.weights.networks import load_checkpoint

        return load_checkpoint
