"""Frames are what a player shows: upright, of square pixels, in the colours that the file says; or they are refused."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from motivnet_cli.config import VideoConfig
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.inputs.video_picture import Presentations
from tests.clips import can_encode, encode_yuv, make_clip, numbered, read_number, write_clip

encode = partial(encode_yuv, rate=30, crf=1)
ALL = VideoConfig(fps=None)
X265 = "log-level=none:pools=1:frame-threads=1:keyint=1:bframes=0"
DECORD = VideoConfig(fps=None, backend="decord")

ORIENTATIONS = {
    (1, 0, 0, 1): lambda upright: upright,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (-1, 0, 0, -1): lambda upright: np.rot90(upright, 2),
    (0, 1, 1, 0): lambda upright: upright.swapaxes(0, 1),
    (0, -1, -1, 0): lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    (0, 1, -1, 0): np.rot90,  # a quarter clockwise is to be shown, so a quarter the other way is stored
    (0, -1, 1, 0): lambda upright: np.rot90(upright, -1),
}
"""The signs of a b c d of a display matrix, and how an upright picture is stored for it."""


def frames(path, config=ALL, max_pixels=10**7):
    return [frame.rgb for frame in VideoReader(str(path), config, max_pixels=max_pixels)]


def show_by(path, a, b, c, d):
    """Give an MP4's only track this display matrix (ISO/IEC 14496-12: big-endian 16.16, the last column 2.30)."""
    content = path.read_bytes()
    identity, matrix = (
        struct.pack(">9i", *(round(value * 65536) for value in (*sides[:2], 0, *sides[2:], 0, 0, 0)), 1 << 30)
        for sides in ((1, 0, 0, 1), (a, b, c, d))
    )
    start = content.index(identity, content.index(b"tkhd"))
    path.write_bytes(content[:start] + matrix + content[start + len(matrix) :])


def plain(codes, pixel_format, *, size=(96, 64)):
    """A frame of one colour, given by its three codes."""
    frame = av.VideoFrame(*size, pixel_format)
    for plane, code in zip(frame.planes, codes, strict=True):
        dtype = np.uint16 if "10" in pixel_format else np.uint8
        plane.update(np.full(plane.buffer_size // dtype().itemsize, code, dtype))
    return frame


@pytest.mark.parametrize("sides", ORIENTATIONS, ids=str)
def test_all_eight_orientations(tmp_path, sides):
    """Turned and mirrored frames are shown upright; decord shows what is stored, and is refused."""
    path = tmp_path / "c.mp4"
    stored = ORIENTATIONS[sides]
    write_clip(path, ((np.ascontiguousarray(stored(numbered(n, (96, 64)))), n / 30) for n in range(3)))
    show_by(path, *sides)
    shown = frames(path)

    assert [picture.shape for picture in shown] == [(64, 96, 3)] * 3
    assert [read_number(picture) for picture in shown] == [0, 1, 2]
    if sides == (1, 0, 0, 1):
        return
    with pytest.raises(InputError, match=r"decord is not right for frames that are turned"):
        frames(path, DECORD)


def test_odd_matrices(tmp_path):
    """An odd angle is refused with its size; a scaled matrix turns; one that leaves nothing to see is passed over."""
    path = tmp_path / "c.mp4"
    make_clip(path, frames=2)
    whole = path.read_bytes()
    show_by(path, 0.9962, 0.0872, -0.0872, 0.9962)
    with pytest.raises(InputError, match=r"turns it by -?5\.0 degrees"):
        frames(path)
    path.write_bytes(whole)
    show_by(path, -0.5, 0, 0, -0.5)
    assert read_number(np.rot90(frames(path)[1], 2)) == 1
    path.write_bytes(whole)
    show_by(path, 0, 0, 0, 0)
    assert read_number(frames(path)[1]) == 1


@pytest.mark.parametrize(
    ("name", "pixel_aspect", "size"),
    [
        ("c.mp4", Fraction(4, 3), (128, 64)),
        ("c.mp4", Fraction(16, 11), (140, 64)),
        ("c.mp4", Fraction(1, 2), (96, 128)),
        ("c.mkv", Fraction(2), (192, 64)),
        ("c.ts", Fraction(2), (192, 64)),
    ],
    ids=str,
)
def test_pixels_are_made_square(tmp_path, name, pixel_aspect, size):
    """The side that is too short grows, by what the container or the bitstream says."""
    pictures = [av.VideoFrame.from_ndarray(numbered(n, (96, 64)), format="rgb24") for n in range(12)]
    path = encode(
        tmp_path / name, [picture.reformat(format="yuv420p") for picture in pictures], pixel_aspect=pixel_aspect
    )
    reader = VideoReader(str(path), ALL, max_pixels=10**7)
    shown = [frame.rgb for frame in reader]

    assert [picture.shape[1::-1] for picture in shown] == [size] * 12
    assert [read_number(picture) for picture in shown] == list(range(12))
    assert (reader.report.width, reader.report.height) == size
    if name == "c.mkv":
        with pytest.raises(InputError, match=r"decord is not right for frames .* not square"):
            frames(path, DECORD)


def test_pixels_are_made_square_before_turning(tmp_path):
    """The shape of pixels is that of the stored frame."""
    path = encode(tmp_path / "c.mp4", [plain((90, 110, 140), "yuv420p")] * 2, pixel_aspect=Fraction(2))
    show_by(path, 0, 1, -1, 0)

    assert frames(path)[0].shape == (192, 64, 3)


def test_what_grows_too_large_is_refused(tmp_path):
    """The limit of pixels holds for the shown picture: a damaged shape of pixels asks for no gigabytes."""
    path = encode(tmp_path / "c.mp4", [plain((90, 110, 140), "yuv420p")] * 2, pixel_aspect=Fraction(20))
    with pytest.raises(InputError, match="1920 x 64 pixels") as caught:
        frames(path, max_pixels=10**5)
    assert caught.value.error_type == "too_large"


@pytest.mark.parametrize("size", [(96, 64), (192, 128)], ids=str)
def test_sizes_that_change(tmp_path, size):
    """Every frame keeps its own size, also if it changes twice."""
    parts = []
    for number, sides in enumerate(((128, 96), size, (128, 96))):
        part = tmp_path / f"{number}.ts"
        pictures = ((numbered(n, sides), n / 30) for n in range(number * 5, number * 5 + 5))
        write_clip(part, pictures, options={"bf": "0"})
        parts.append(part.read_bytes())
    path = tmp_path / "c.ts"
    path.write_bytes(b"".join(parts))
    reader = VideoReader(str(path), ALL, max_pixels=10**7)
    shown = [frame.rgb for frame in reader]

    assert (reader.report.width, reader.report.height) == (128, 96)
    assert [picture.shape[1::-1] for picture in shown] == [(128, 96)] * 5 + [size] * 5 + [(128, 96)] * 5
    assert [read_number(picture) for picture in shown] == list(range(15))


@pytest.mark.parametrize("orientation", [1, 2, 4, 6])
def test_motion_jpeg_with_exif(tmp_path, orientation):
    """Cameras put EXIF into each frame: its orientation is applied, and PyAV's ignorance of it is no crash."""
    upright = {1: None, 2: 0, 4: 1, 6: 2}[orientation]  # Pillow's FLIP_LEFT_RIGHT, FLIP_TOP_BOTTOM, ROTATE_90
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "c.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height = (64, 96) if orientation == 6 else (96, 64)
        stream.pix_fmt = "yuvj420p"
        for number in range(3):
            picture = Image.fromarray(numbered(number, (96, 64)))
            encoded = io.BytesIO()
            (picture if upright is None else picture.transpose(upright)).save(encoded, "jpeg", exif=exif, quality=95)
            packet = av.Packet(encoded.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, number, number, True
            packet.time_base = Fraction(1, 25)
            container.mux(packet)

    assert [read_number(picture) for picture in frames(path)] == [0, 1, 2]


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.ts"])
def test_the_start_of_the_video_in_its_file_is_told(tmp_path, name):
    """Times count from the video's first frame; how long after the start of the file that is, is in the report."""
    path = tmp_path / name
    make_clip(path, frames=20, times_s=[0.48 + n / 25 for n in range(20)], audio_s=0.7)
    reader = VideoReader(str(path), ALL, max_pixels=10**7)

    assert [frame.time_s for frame in reader][:2] == pytest.approx([0, 0.04], abs=1e-3)
    assert reader.report.time_offset_s == pytest.approx(0.48, abs=0.07)  # sound begins up to a frame of 64 ms early


KR_KB = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593), None: (0.299, 0.114)}
"""Shares of red and blue in luma (H.273); no matrix said counts as BT.601."""


def yuv_of(rgb, kr, kb, *, is_full, bits=8):
    """The codes of a colour, 0 to 1, by H.273."""
    red, green, blue = rgb
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    unit = 1 << (bits - 8)
    if is_full:
        top = (1 << bits) - 1
        return round(luma * top), *(round(value * top) + 128 * unit for value in chroma)
    return round((16 + 219 * luma) * unit), *(round((128 + 224 * value) * unit) for value in chroma)


@pytest.mark.parametrize("is_full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", KR_KB)
def test_matrix_and_range(tmp_path, matrix, is_full):
    """Colours are converted by the matrix and range that the file says."""
    rgb = (200, 90, 40)
    codes = yuv_of([value / 255 for value in rgb], *KR_KB[matrix], is_full=is_full)
    said = [f"colormatrix={matrix}"] * bool(matrix) + ["fullrange=on"] * is_full
    path = encode(tmp_path / "c.mp4", [plain(codes, "yuv420p")] * 2, options={"x264-params": ":".join(said)})

    assert frames(path)[1][32, 48].tolist() == pytest.approx(rgb, abs=3)


def test_a_matrix_that_is_not_converted_is_refused(tmp_path):
    """YCgCo is not shown as if it were BT.601."""
    path = encode(
        tmp_path / "c.mp4", [plain((90, 110, 140), "yuv420p")] * 2, options={"x264-params": "colormatrix=YCgCo"}
    )
    with pytest.raises(InputError, match="matrix") as caught:
        frames(path)
    assert caught.value.error_type == "unsupported"


def test_dolby_vision_alone_is_refused():
    """Colours of profile 5 are in no matrix that the stream names; with a compatible base layer they are taken."""
    context = SimpleNamespace(sample_aspect_ratio=None)
    presentations = Presentations(SimpleNamespace(codec_context=context, sample_aspect_ratio=None), max_pixels=10**6)
    side_data = {"DOVI_METADATA": b""}

    def frame(transfer):
        kind = SimpleNamespace(is_rgb=False, name="yuv420p10le")
        about = {"colorspace": 2, "color_range": 2, "color_trc": transfer, "color_primaries": 2, "format": kind}
        return SimpleNamespace(width=64, height=48, side_data=side_data, **about)

    context.color_trc = context.color_primaries = 2
    with pytest.raises(InputError, match="profile 5"):
        presentations.of(frame(2))
    assert presentations.of(frame(18)).is_hdr


def pq_signal(nits):
    """BT.2100's inverse EOTF of PQ."""
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg_signal(nits):
    """BT.2100's OETF of HLG, of the grey that a display of 1,000 cd/m2 shows so bright."""
    scene = (nits / 1000) ** (1 / 1.2)
    return (3 * scene) ** 0.5 if scene <= 1 / 12 else 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073


@pytest.mark.parametrize(
    ("transfer", "signal"), [("smpte2084", pq_signal), ("arib-std-b67", hlg_signal)], ids=["PQ", "HLG"]
)
def test_hdr_is_shown_as_sdr(tmp_path, transfer, signal):
    """A grey as bright as SDR's on a display whose white is 203 cd/m2 is that grey; above, brighter stays brighter."""
    if not can_encode("libx265"):
        pytest.skip("no encoder libx265 here")
    greys = [20, 60, 128, 200, 225]
    nits = [203 * (grey / 255) ** 2.4 for grey in greys] + [203, 400, 900]
    coded = [yuv_of([signal(value)] * 3, *KR_KB["bt2020nc"], is_full=False, bits=10) for value in nits]
    said = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    path = encode(
        tmp_path / "c.mp4",
        [plain(codes, "yuv420p10le") for codes in coded],
        codec="libx265",
        options={"x265-params": f"{X265}:{said}"},
    )
    shown = [picture[32, 48].astype(int).tolist() for picture in frames(path)]

    for grey, colour in zip(greys, shown, strict=False):
        assert colour == pytest.approx([grey] * 3, abs=2)
    brightness = [colour[1] for colour in shown]
    assert brightness == sorted(brightness)
    assert 240 < brightness[5] < brightness[6] <= brightness[7] <= 255


@pytest.mark.parametrize("transfer", ["smpte2084", "bt709"], ids=["HDR", "SDR"])
def test_wide_colours_become_those_of_bt709(tmp_path, transfer):
    """A red of BT.709 that is coded with the primaries of BT.2020 is that red again."""
    if not can_encode("libx265"):
        pytest.skip("no encoder libx265 here")
    rgb = (200, 60, 50)
    linear = np.array([(value / 255) ** 2.4 for value in rgb])
    # BT.2087, equation 4: from the primaries of BT.709 to those of BT.2020.
    wide = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]) @ linear
    signal = [pq_signal(203 * light) if transfer == "smpte2084" else light ** (1 / 2.4) for light in wide]
    codes = yuv_of(signal, *KR_KB["bt2020nc"], is_full=False, bits=10)
    said = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    path = encode(
        tmp_path / "c.mp4",
        [plain(codes, "yuv420p10le")] * 2,
        codec="libx265",
        options={"x265-params": f"{X265}:{said}"},
    )

    assert frames(path)[1][32, 48].tolist() == pytest.approx(rgb, abs=4)
