"""Tries that failed: what another one may bring, and how long to wait before it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motivnet_cli.errors import ErrorType

BACKOFF_SECONDS = 0.5
"""About the wait after a first failure; it doubles from there."""
MAX_WAIT_SECONDS = 60.0


class InterruptedTryError(Exception):
    """A try failed, and another may bring the file, or more of it.

    Args:
        wait_seconds: How long the server asks to wait before it.
        is_unreachable: No server was reached.
    """

    def __init__(self, reason: str, *, wait_seconds: float | None = None, is_unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds
        self.is_unreachable = is_unreachable


class RefusedError(Exception):
    """No other try will bring the file. The message continues a sentence that begins with the file's name."""

    def __init__(self, error_type: ErrorType, message: str) -> None:
        super().__init__(message)
        self.error_type: ErrorType = error_type


class PrivateAddressError(RefusedError):
    """A URL leads to an address that is read only if the user allows it."""

    def __init__(self, message: str) -> None:
        super().__init__("refused_url", message)


def seconds_before_retry(failures: int, *, asked: float | None = None, backoff_seconds: float | None = None) -> float:
    """How long to wait after so many failures in a row: what the server asks for, or else twice as long each time.

    Chance takes up to half of the latter away, so that processes that failed together do not come back together.

    Args:
        failures: From 1.
        backoff_seconds: The longest wait after the first failure; None takes BACKOFF_SECONDS.
    """
    if asked is None:
        asked = (BACKOFF_SECONDS if backoff_seconds is None else backoff_seconds) * 2 ** (failures - 1)
        asked *= random.uniform(0.5, 1.0)
    return min(asked, MAX_WAIT_SECONDS)
