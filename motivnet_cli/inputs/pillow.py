"""Settings of Pillow that hold for the whole process: set while a run decodes, and put back behind it."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from typing import TYPE_CHECKING

from PIL import AvifImagePlugin, Image

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_num_runs = 0
_restore = contextlib.ExitStack()
_silence = logging.NullHandler()


@contextlib.contextmanager
def decoding_settings() -> Iterator[None]:
    """Pillow as a run needs it, which decodes on as many threads as there are cores.

    Its limit on the size of a picture gives way to `max_pixels`, the AVIF decoder takes one thread a picture, and
    warnings such as "Corrupt EXIF data" are not shown, since the picture is used or refused all the same. None of
    this can be set for one call or thread. Where runs overlap, the last one to end puts everything back.
    """
    global _num_runs
    with _lock:
        _num_runs += 1
        if _num_runs == 1:
            _restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            _restore.callback(setattr, AvifImagePlugin, "DEFAULT_MAX_THREADS", AvifImagePlugin.DEFAULT_MAX_THREADS)
            _restore.enter_context(_without_warnings())
            Image.MAX_IMAGE_PIXELS = None
            AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        yield
    finally:
        with _lock:
            _num_runs -= 1
            if _num_runs == 0:
                _restore.close()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Nothing of Pillow's on stderr; other filters of warnings, and handlers of its log, stay as they are."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    added = warnings.filters[0]
    logger = logging.getLogger("PIL")
    logger.addHandler(_silence)  # without any handler, Python would print errors
    try:
        yield
    finally:
        logger.removeHandler(_silence)
        with contextlib.suppress(ValueError, AttributeError):  # the program has other filters by now
            warnings.filters.remove(added)  # type: ignore[attr-defined]  # a list, whatever its stub says
