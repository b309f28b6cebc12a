"""A decoded frame of a video -> the picture that a player shows: upright, of square pixels, in the colours of SDR.

What the file says is applied to every frame: the matrix and range of its colours, the shape of its pixels, the eight
orientations of its display matrix, and the transfer curves of HDR. What cannot be applied exactly is refused. Nothing
of motivnet but its errors is imported, as for `video_worker`.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np
from av.sidedata.sidedata import Type

from motivnet_cli.errors import InputError

if TYPE_CHECKING:
    from av.sidedata.sidedata import SideData
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

_IDENTITY = (1, 0, 0, 1)
_SKEW_TOLERANCE = 0.001
"""Share of a display matrix's larger entries below which the others count as zero: less than a tenth of a degree."""
_MATRICES = {0, 1, 2, 3, 4, 5, 6, 7, 9}
"""FFmpeg's AVCOL_SPC_*, as H.273 numbers them, that swscale converts; unspecified and reserved ones are BT.601."""
_BT601, _BT709 = 5, 1
_UNSAID = {0, 2}
"""H.273's numbers of the reserved and of the unspecified transfer curve."""
_LIMITED, _FULL = 1, 2
"""FFmpeg's AVCOL_RANGE_*."""
_FRAMES_TO_COLLECT = 4
"""A frame of PyAV whose side data was read refers to itself, and would keep its memory until Python looks for such."""
_ROWS_AT_ONCE = 64
"""Rows whose colours are converted together: what is computed of them fits in a cache."""


class _Transfer(IntEnum):
    """H.273's numbers of the transfer curves of HDR (BT.2100)."""

    PQ = 16
    HLG = 18


_TO_BT709 = {
    9: ((1.6604910, -0.5876411, -0.0728499), (-0.1245505, 1.1328999, -0.0083494), (-0.0181508, -0.1005789, 1.1187297)),
    12: ((1.2249402, -0.2249402, 0.0), (-0.0420570, 1.0420570, 0.0), (-0.0196376, -0.0786360, 1.0982736)),
}
"""Linear light of BT.2020 and of Display P3, by H.273's numbers of primaries, to that of BT.709 (BT.2407)."""
_LUMA_BT2020 = (0.2627, 0.6780, 0.0593)
_WHITE_NITS = 203.0
"""Diffuse white of HDR, which is the white of SDR (BT.2408)."""
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
"""The display that BT.2100 gives for HLG."""
_KNEE = 0.8
"""Up to this share of white, light is kept as it is; what is brighter approaches white."""
_SDR_GAMMA = 2.4
"""Of a display for SDR (BT.1886)."""
_CODES = 4096


@dataclass(frozen=True, slots=True)
class Presentation:
    """How a frame is to be shown."""

    width: int
    height: int
    """Of the stored frame, in pixels of the shape `pixel_aspect`."""
    pixel_aspect: Fraction
    """Width of a pixel over its height."""
    orientation: tuple[int, int, int, int]
    """The display matrix as signs: a pixel at x, y is shown at a x + c y, b x + d y."""
    matrix: int
    is_full_range: bool
    transfer: int
    primaries: int

    @property
    def square_size(self) -> tuple[int, int]:
        """Width and height in square pixels, before turning: one of the two grows, so that no detail is lost."""
        if self.pixel_aspect >= 1:
            return round(self.width * self.pixel_aspect), self.height
        return self.width, round(self.height / self.pixel_aspect)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height of the picture in pixels."""
        width, height = self.square_size
        return (width, height) if self.orientation[0] else (height, width)

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (_Transfer.PQ, _Transfer.HLG)

    @property
    def is_as_stored(self) -> bool:
        """Whether frames are shown as they are stored, by a decoder that knows of matrix and range only."""
        return (
            self.pixel_aspect == 1
            and self.orientation == _IDENTITY
            and not self.is_hdr
            and self.primaries not in _TO_BT709
        )

    def rgb_of(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The picture of a frame that is to be shown so: uint8 [H, W, 3], a view where it is turned."""
        width, height = self.square_size
        needs_light = self.is_hdr or self.primaries in _TO_BT709
        interpolation = "BILINEAR" if (width, height) == (self.width, self.height) else "BICUBIC"
        stored = frame.to_ndarray(  # [H, W, 3], before turning
            format="rgb48le" if needs_light else "rgb24",
            width=width,
            height=height,
            interpolation=interpolation,
            src_colorspace=self.matrix,
            # PyAV before 17 passes the matrix and range on only where those of the source and the RGB differ, although
            # those of RGB mean nothing.
            dst_colorspace=_BT709 if self.matrix == _BT601 else _BT601,
            src_color_range=_FULL if self.is_full_range else _LIMITED,
            dst_color_range=_FULL,
        )
        rgb = self._to_sdr(cast("NDArray[np.uint16]", stored)) if needs_light else cast("NDArray[np.uint8]", stored)
        return _turned(rgb, self.orientation)

    def _to_sdr(self, rgb: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """The RGB of a frame, uint16 [H, W, 3], as SDR of BT.709."""
        sdr = np.empty(rgb.shape, np.uint8)  # [H, W, 3]
        for top in range(0, len(rgb), _ROWS_AT_ONCE):
            rows = slice(top, top + _ROWS_AT_ONCE)
            light = _light_codes(self.transfer).take(rgb[rows])  # [R, W, 3]
            if self.transfer == _Transfer.HLG:
                red, green, blue = (share * light[..., i] for i, share in enumerate(_LUMA_BT2020))  # [R, W]
                light *= (red + green + blue)[..., None] ** (_HLG_GAMMA - 1) * (_HLG_PEAK_NITS / _WHITE_NITS)
            if self.primaries in _TO_BT709:
                light = light @ np.array(_TO_BT709[self.primaries], np.float32).T
            if self.is_hdr:
                _compress_highlights(light)
            codes = np.sqrt(light.clip(0, 1)) * (_CODES - 1)
            sdr[rows] = _sdr_codes()[(codes + 0.5).astype(np.intp)]
        return sdr


class Presentations:
    """How the frames of a stream are to be shown."""

    def __init__(self, stream: VideoStream, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._num_seen = 0
        _know_all_side_data()
        self._context = stream.codec_context
        # What the container says comes before what the decoder finds, as in players; where the two are the same, the
        # decoder is followed, which hears of changes.
        said = stream.sample_aspect_ratio
        self._container_aspect = said if said and said != self._context.sample_aspect_ratio else None

    def of(self, frame: VideoFrame) -> Presentation:
        """How a frame is to be shown; to be asked before the next one is decoded.

        Raises:
            InputError: It is too large, turned by an odd angle or sheared, or in colours that are not known to convert
                exactly.
        """
        self._num_seen += 1
        if self._num_seen % _FRAMES_TO_COLLECT == 0:
            gc.collect()
        context = self._context
        presentation = Presentation(
            width=frame.width,
            height=frame.height,
            pixel_aspect=Fraction(self._container_aspect or context.sample_aspect_ratio or 1),
            orientation=_orientation_of(_side_data(frame, "DISPLAYMATRIX")),
            matrix=_matrix_of(frame),
            is_full_range=frame.color_range == _FULL or frame.format.name.startswith("yuvj"),
            # The frame says it itself from PyAV 16 on.
            transfer=int(getattr(frame, "color_trc", context.color_trc) or 0),
            primaries=int(getattr(frame, "color_primaries", context.color_primaries) or 0),
        )
        if _side_data(frame, "DOVI_METADATA") is not None and presentation.transfer in _UNSAID:
            raise InputError(
                "unsupported", "its colours are those of Dolby Vision alone (profile 5): convert it to SDR"
            )
        width, height = presentation.square_size
        if width * height > self._max_pixels:
            pixels = f"{width} x {height} pixels a frame"
            raise InputError(
                "too_large", f"{pixels}, and --max-pixels allows {self._max_pixels}: raise it, or shrink the video"
            )
        return presentation


def _know_all_side_data() -> None:
    """Have a frame tell what it has besides its picture, also if one kind of it is unknown to PyAV.

    PyAV 18 raises ValueError instead where FFmpeg 8 adds the EXIF of a frame of Motion JPEG.
    """
    setattr(Type, "_missing_", classmethod(lambda kinds, number: kinds.VIDEO_HINT))  # noqa: B010 - mypy


def _side_data(frame: VideoFrame, name: str) -> SideData | None:
    return cast("SideData | None", frame.side_data.get(name))


def _orientation_of(matrix: SideData | None) -> tuple[int, int, int, int]:
    """The signs of a b c d of a frame's display matrix, of which two are 0."""
    if matrix is None:
        return _IDENTITY
    numbers = np.frombuffer(bytes(matrix), np.int32)  # [9], rows of a b u, c d v, x y w
    a, b, c, d = numbers[[0, 1, 3, 4]] / (1 << 16)
    if a * d == b * c:  # players pass over a matrix that would leave nothing to see
        return _IDENTITY
    kept, others = ((a, d), (b, c)) if abs(a * d) > abs(b * c) else ((b, c), (a, d))
    if max(map(abs, others)) > _SKEW_TOLERANCE * min(map(abs, kept)):
        degrees = -np.degrees(np.arctan2(b, a))
        raise InputError(
            "unsupported", f"its display matrix shears it or turns it by {degrees:.1f} degrees: make it upright first"
        )
    return cast(
        "tuple[int, int, int, int]",
        tuple(int(np.sign(value)) if value in kept else 0 for value in (a, b, c, d)),
    )


def _turned(rgb: NDArray[np.uint8], orientation: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    a, b, c, d = orientation
    if a == 0:
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: d or 1, :: a or 1]


def _matrix_of(frame: VideoFrame) -> int:
    if frame.format.is_rgb:
        return _BT601  # has none
    if frame.colorspace not in _MATRICES:
        raise InputError(
            "unsupported",
            f"its colours have a matrix (number {frame.colorspace} of H.273) that is not read: convert it to BT.709",
        )
    return _BT601 if frame.colorspace in (0, 2, 3, 6) else int(frame.colorspace)


@cache
def _light_codes(transfer: int) -> NDArray[np.float32]:
    """Light by 16-bit code, [65536]: of HLG in the scene, 0 to 1; else that of the display in shares of white."""
    signal = np.linspace(0, 1, 1 << 16)
    if transfer == _Transfer.PQ:  # BT.2100, table 4
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = signal ** (1 / m2)
        light = 10_000 / _WHITE_NITS * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    elif transfer == _Transfer.HLG:  # BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        light = signal**_SDR_GAMMA
    return light.astype(np.float32)


def _compress_highlights(light: NDArray[np.float32]) -> None:
    """Bring light in shares of white, [R, W, 3], to 0 to 1 in place: kept up to the knee, in the same hue above."""
    brightest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])  # [R, W]
    if brightest.max(initial=0) <= _KNEE:
        return
    above = np.maximum(brightest - _KNEE, 0)
    compressed = np.minimum(brightest, _KNEE) - (1 - _KNEE) * np.expm1(above / (_KNEE - 1))
    light *= np.where(above > 0, compressed / np.maximum(brightest, _KNEE), 1)[..., None]


@cache
def _sdr_codes() -> NDArray[np.uint8]:
    """The 8-bit code by the square root of light, [4096]."""
    light = np.linspace(0, 1, _CODES) ** 2
    return np.round(255 * light ** (1 / _SDR_GAMMA)).astype(np.uint8)
