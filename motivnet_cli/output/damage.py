"""What damaged files of an output raise, as one error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa

from motivnet_cli.errors import OutputConflictError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError)


@contextlib.contextmanager
def reading(what: Path | str) -> Iterator[None]:
    """Read a file of an output, or what is described.

    Raises:
        OutputConflictError: Its content is not what a run writes.
        OSError: The disk cannot be read, or the file is gone.
    """
    try:
        yield
    except (*_DAMAGE, pa.ArrowException) as error:
        # pyarrow gives no errno to the error of a file that is gone.
        if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        name = what if isinstance(what, str) else f"the file {str(what)!r}"
        raise OutputConflictError(
            f"{name} is damaged ({first_line(error)[:200]}): restore it from a copy, or start anew with --overwrite"
        ) from error
