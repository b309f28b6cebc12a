"""The pixels of a JPEG, with libjpeg's warnings as errors: Pillow hides them, and gives what a damaged scan decodes to.

Both decode with libjpeg-turbo: the pixels of a sound picture are the same (docs/decisions/0017-damaged-jpegs.md).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import simplejpeg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def jpeg_pixels(content: bytes) -> NDArray[np.uint8] | None:
    """The pixels as they are stored, before any turn: uint8 [H, W, 3], writable.

    Args:
        content: What `picture_parts.jpeg_parts` gives.

    Returns:
        None if they are to be read by Pillow: CMYK, which has been checked, and what simplejpeg does not decode, which
        has not (chrominance reduced in an unusual way).

    Raises:
        ValueError: The scans are damaged.
    """
    try:
        *_, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except ValueError:
        return None
    is_ink = colours in ("CMYK", "YCCK")
    pixels = _decoded(content, "CMYK" if is_ink else "RGB")
    return None if is_ink else pixels


def _decoded(content: bytes, colours: str) -> NDArray[np.uint8]:
    """As `jpeg_pixels`; harmless oddities are mended, for of several warnings only the first is told."""
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colours, strict=True)
    except ValueError as error:
        mended = _mended(content, str(error), colours)
        if mended == content:
            raise
        return _decoded(mended, colours)
    return pixels


def _mended(content: bytes, warning: str, colours: str) -> bytes:
    """The same picture without what libjpeg warns of, if that says nothing of pixels; else the content as it is."""
    if warning.startswith("Invalid SOS parameters"):  # libjpeg ignores them in a sequential JPEG
        return _SEQUENTIAL_SCAN.sub(b"\\1\x00\x3f\x00", content)
    if warning.startswith("Unknown Adobe color transform"):  # libjpeg takes it for the usual one
        return _ADOBE_TRANSFORM.sub(b"\\1\x02" if colours == "CMYK" else b"\\1\x01", content, count=1)
    padded = _PADDED.search(warning)
    if padded and int(padded[1]) <= _MAX_PADDING:
        return content.replace(bytes(int(padded[1])) + _END, _END)
    return content


_SEQUENTIAL_SCAN = re.compile(rb"(\xff\xda\x00(?:\x08\x01.{2}|\x0a\x02.{4}|\x0c\x03.{6}|\x0e\x04.{8})).{3}", re.DOTALL)
_ADOBE_TRANSFORM = re.compile(rb"(\xff\xee..Adobe.{6}).", re.DOTALL)
_END = b"\xff\xd9"
_PADDED = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MAX_PADDING = 63
"""Zeros in front of the end marker that count as padding; more are taken for a part of the picture that is lost."""
