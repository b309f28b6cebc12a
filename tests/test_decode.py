"""Files -> upright RGB frames, or the reason why not.

`golden/quadrants.heic` and `golden/quadrants-turned.heic` (stored on its side, with the turn as a HEIF property and
as EXIF) were written once by pillow-heif 1.8.1 from `pictures.quadrants()`; pi-heif itself cannot write HEIC.
"""

from __future__ import annotations

import io
import logging
import os
import random
import socket
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode, decode_bytes, upright_size
from motivnet_cli.inputs.pillow import decoding_settings
from tests.pictures import (
    ODD_NAMES,
    SAMPLE_DATA,
    cut_short,
    face_photo,
    hostile_folder,
    plain_png,
    plain_tiff,
    quadrants,
)

GOLDEN = Path(__file__).parent / "golden"
MAX_PIXELS = 100_000_000
ORIENTATION = 0x0112
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is stored under each EXIF orientation (EXIF 2.3, tag 274): the inverse of showing it."""

KINDS = {
    "jpeg": ("RGB", "JPEG", {"quality": 95, "subsampling": 0}, 2),
    "progressive jpeg": ("RGB", "JPEG", {"quality": 95, "progressive": True}, 4),
    "cmyk jpeg": ("CMYK", "JPEG", {"quality": 95}, 2),
    "png": ("RGB", "PNG", {}, 0),
    "rgba png": ("RGBA", "PNG", {}, 0),
    "lossless webp": ("RGB", "WEBP", {"lossless": True}, 0),
    "webp": ("RGB", "WEBP", {"quality": 95}, 5),
    "bmp": ("RGB", "BMP", {}, 0),
    "tiff": ("RGB", "TIFF", {}, 0),
    "lzw tiff": ("RGB", "TIFF", {"compression": "tiff_lzw"}, 0),
    "jpeg tiff": ("RGB", "TIFF", {"compression": "jpeg"}, 5),
    "cmyk tiff": ("CMYK", "TIFF", {}, 0),
    "lab tiff": ("LAB", "TIFF", {}, 4),
    "palette png": ("P", "PNG", {}, 25),
    "gif": ("RGB", "GIF", {}, 8),
    "avif": ("RGB", "AVIF", {"quality": 90}, 5),
    "jpeg 2000": ("RGB", "JPEG2000", {}, 1),
    "ppm": ("RGB", "PPM", {}, 0),
    "mpo": ("RGB", "MPO", {"quality": 95}, 4),
}
"""Mode, format and options to save with, and how far the result may be off: grey levels on average, for the edges
of `quadrants` suffer under chroma subsampling and small palettes."""

SEVERAL = {
    "gif": ("GIF", {}, 8),
    "webp": ("WEBP", {"lossless": True}, 0),
    "apng": ("PNG", {}, 0),
    "tiff": ("TIFF", {}, 0),
    "mpo": ("MPO", {"quality": 95}, 4),
    "avif": ("AVIF", {"quality": 90}, 5),
}


def rgb_of(path):
    return decode(str(path), max_pixels=MAX_PIXELS).rgb


def refusal(path, *, max_pixels=MAX_PIXELS):
    with pytest.raises(InputError) as caught:
        decode(str(path), max_pixels=max_pixels)
    return caught.value


def assert_looks_like(rgb, picture, *, within):
    expected = np.asarray(picture.convert("RGB"))
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).mean() <= within


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_picture(tmp_path, kind):
    """What was saved comes back, with colours in their places; lossy formats within a few grey levels on average."""
    mode, file_format, options, within = KINDS[kind]
    quadrants().convert(mode).save(tmp_path / "picture", file_format, **options)

    assert_looks_like(rgb_of(tmp_path / "picture"), quadrants(), within=within)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_gives_three_equal_channels(tmp_path, mode):
    """Grey and black-and-white pictures become RGB."""
    picture = quadrants().convert(mode)
    picture.save(tmp_path / "picture.png")

    assert_looks_like(rgb_of(tmp_path / "picture.png"), picture, within=0)


@pytest.mark.parametrize("name", ["quadrants.heic", "quadrants-turned.heic"])
def test_heic_comes_upright(name):
    """HEIC is read, and a turn that is stored both as HEIF property and as EXIF is applied once."""
    assert_looks_like(rgb_of(GOLDEN / name), quadrants(), within=6)


def test_frame_is_contiguous_writable_uint8(tmp_path):
    """A frame is what numpy and torch take without a copy or a complaint."""
    quadrants().save(tmp_path / "picture.png")
    frame = decode(str(tmp_path / "picture.png"), max_pixels=MAX_PIXELS)

    assert frame.rgb.dtype == np.uint8
    assert frame.rgb.flags.c_contiguous
    assert frame.rgb.flags.writeable
    assert (frame.index, frame.time_s) == (None, None)


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("size", [(900, 701), (70, 9001)])
def test_exif_orientation_is_applied(tmp_path, orientation, size):
    """All eight orientations come upright to the pixel, also in pictures larger than a band of the conversion."""
    upright = quadrants(*size)
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = upright if turn is None else upright.transpose(turn)
    stored.save(tmp_path / "picture.png", exif=exif, compress_level=1)

    assert np.array_equal(rgb_of(tmp_path / "picture.png"), np.asarray(upright))


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize(("file_format", "within"), [("JPEG", 5), ("WEBP", 6), ("TIFF", 0), ("AVIF", 8)])
def test_every_format_carries_orientation(tmp_path, file_format, within, orientation):
    """The eight orientations are found in each format that stores them, and applied once, to the size alone too."""
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = quadrants() if turn is None else quadrants().transpose(turn)
    stored.save(tmp_path / "picture", file_format, exif=exif, quality=90)

    assert_looks_like(rgb_of(tmp_path / "picture"), quadrants(), within=within)
    assert upright_size(str(tmp_path / "picture")) == quadrants().size


@pytest.mark.parametrize("name", ["quadrants.heic", "quadrants-turned.heic"])
def test_the_upright_size_of_heic(name):
    """It is that of the decoded picture."""
    assert upright_size(str(GOLDEN / name)) == quadrants().size


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_out_of_range_means_none(tmp_path, orientation):
    """Cameras do write 0."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    quadrants().save(tmp_path / "picture.png", exif=exif)

    assert_looks_like(rgb_of(tmp_path / "picture.png"), quadrants(), within=0)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0rubbish that is no TIFF header",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    ],
    ids=["empty", "rubbish", "far away", "endless"],
)
def test_broken_exif_is_ignored(tmp_path, file_format, exif):
    """A broken EXIF block costs the orientation, not the picture."""
    quadrants().save(tmp_path / "picture", file_format, exif=exif, quality=95, lossless=True)

    assert_looks_like(rgb_of(tmp_path / "picture"), quadrants(), within=5)


@pytest.mark.parametrize("kind", SEVERAL)
def test_first_picture_of_several(tmp_path, kind):
    """Of an animation or of many pages the first is taken."""
    file_format, options, within = SEVERAL[kind]
    others = [quadrants().rotate(180), quadrants().convert("L").convert("RGB")]
    quadrants().save(tmp_path / "picture", file_format, save_all=True, append_images=others, **options)

    assert_looks_like(rgb_of(tmp_path / "picture"), quadrants(), within=within)


def test_content_decides_and_not_the_name(tmp_path):
    """A PNG named .jpg is a PNG."""
    quadrants().save(tmp_path / "picture.jpg", "PNG")

    assert_looks_like(rgb_of(tmp_path / "picture.jpg"), quadrants(), within=0)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_grey_of_16_bits_is_scaled(tmp_path, file_format):
    """65535 becomes 255, and what lies between is divided by 257 and rounded, not clipped."""
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    values[-1, -1] = 65535
    Image.fromarray(values).save(tmp_path / "picture", file_format)

    assert np.array_equal(rgb_of(tmp_path / "picture"), np.rint(values / 257)[:, :, None].repeat(3, axis=2))


def test_grey_of_16_bits_and_either_byte_order(tmp_path):
    """A big-endian TIFF has the same values."""
    values = np.array([[0, 128, 129, 25700, 65535]], dtype=">u2")
    Image.frombytes("I;16B", (5, 1), values.tobytes()).save(tmp_path / "picture.tif")

    assert rgb_of(tmp_path / "picture.tif")[0, :, 0].tolist() == [0, 0, 1, 100, 255]


def test_grey_of_12_bits_is_scaled_by_its_own_white(tmp_path):
    """4095 is the white of a 12-bit TIFF."""
    plain_tiff(tmp_path / "x.tif", width=2, height=1, pixels=b"\xff\xf8\x00", tags={258: 12})

    assert rgb_of(tmp_path / "x.tif")[0, :, 0].tolist() == [255, 128]


def test_white_is_zero_is_inverted_in_16_bits(tmp_path):
    """A TIFF that says 0 is white shows 0 as white."""
    pixels = np.array([0, 65535, 25700], dtype="<u2").tobytes()
    plain_tiff(tmp_path / "x.tif", width=3, height=1, pixels=pixels, tags={258: 16, 262: 0})

    assert rgb_of(tmp_path / "x.tif")[0, :, 0].tolist() == [255, 0, 155]


def test_grey_without_a_known_white_is_refused(tmp_path):
    """Floating-point and 32-bit pixels are not guessed at."""
    quadrants().convert("F").save(tmp_path / "float.tif")
    quadrants().convert("I").save(tmp_path / "integer.tif")

    assert "floating-point" in str(refusal(tmp_path / "float.tif"))
    assert "32-bit" in str(refusal(tmp_path / "integer.tif"))
    assert refusal(tmp_path / "float.tif").error_type == "unsupported"


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(tmp_path, file_format):
    """Transparent is white, half transparent halfway to white, whatever colour lies beneath."""
    picture = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        picture.putpixel((x, 0), (200, 0, 40, alpha))
    picture.save(tmp_path / "picture", file_format, lossless=True, exact=True)

    assert np.abs(rgb_of(tmp_path / "picture")[0].astype(int) - [[255] * 3, [227, 127, 147], [200, 0, 40]]).max() <= 1


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_transparent_palette_entry_is_white(tmp_path, file_format):
    """Of a palette, the transparent entry becomes white and the others keep their colour."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "picture", file_format, transparency=0)

    assert rgb_of(tmp_path / "picture")[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_palette_with_alpha_of_its_own(tmp_path):
    """A PNG palette may give each entry its own transparency."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "x.png", transparency=bytes([128, 255]))

    assert rgb_of(tmp_path / "x.png")[0].tolist() == [[127, 127, 127], [200, 100, 50]]


def test_transparent_colour_of_a_picture_without_alpha(tmp_path):
    """PNG may name one grey or one colour as transparent."""
    Image.new("L", (1, 1), 7).save(tmp_path / "grey.png", transparency=7)
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "colour.png", transparency=(1, 2, 3))

    assert rgb_of(tmp_path / "grey.png").tolist() == [[[255, 255, 255]]]
    assert rgb_of(tmp_path / "colour.png").tolist() == [[[255, 255, 255]]]


def test_hostile_folder_is_refused_entry_by_entry(tmp_path):
    """Every bad file has its own lasting error type and a clean sentence; every good one beside it is read."""
    folder = tmp_path / "photos"
    bad = hostile_folder(folder)
    files = {path.name for path in folder.iterdir() if not path.is_dir()}
    refused = {name: refusal(folder / name) for name in files & bad.keys() if name != "pipe.jpg"}

    assert {name: error.error_type for name, error in refused.items()} == {name: bad[name] for name in refused}
    assert all("\n" not in str(error) and " at 0x" not in str(error) for error in refused.values())
    assert {*ODD_NAMES, "good.jpg"} == files - bad.keys()
    for name in ODD_NAMES:
        assert_looks_like(rgb_of(folder / name), quadrants(), within=0)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes among files")
def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    """Opening a named pipe would wait for ever: it is refused unopened."""
    os.mkfifo(tmp_path / "pipe.jpg")
    refused = []
    reader = threading.Thread(target=lambda: refused.append(refusal(tmp_path / "pipe.jpg")), daemon=True)
    reader.start()
    reader.join(300)

    assert [(error.error_type, "named pipe" in str(error)) for error in refused] == [("not_a_file", True)]


@pytest.mark.skipif(os.name == "nt", reason="no devices and sockets among files")
def test_other_things_that_are_no_files(tmp_path, monkeypatch):
    """A folder, a device and a socket are refused by their kind."""
    monkeypatch.chdir(tmp_path)  # a socket's name has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        assert "a socket" in str(refusal("socket.jpg"))
    assert "a character device" in str(refusal(os.devnull))
    assert refusal(tmp_path).error_type == "is_a_folder"


def test_names_that_lead_nowhere(tmp_path):
    """A missing file, a file used as a folder, and names that no file can have."""
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "none.jpg", tmp_path / "file" / "x.jpg", "nul\0byte.jpg", tmp_path / ("x" * 5000)):
        assert refusal(path).error_type == "not_found"


def test_too_large_is_refused_on_the_header_alone(tmp_path):
    """The limit is inclusive, and is checked before pixels: those of this file are missing, and nobody notices."""
    plain_png(tmp_path / "x.png", width=3000, height=2000, rows=2)

    message = str(refusal(tmp_path / "x.png", max_pixels=5_999_999))
    assert refusal(tmp_path / "x.png", max_pixels=5_999_999).error_type == "too_large"
    assert all(part in message for part in ("3000 x 2000", "6000000", "5999999", "--max-pixels"))
    assert refusal(tmp_path / "x.png", max_pixels=6_000_000).error_type == "truncated"


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_every_format_obeys_max_pixels(tmp_path, file_format):
    """One pixel over the limit is refused in every format, and the limit itself is not."""
    quadrants(40, 30).save(tmp_path / "picture", file_format)

    assert refusal(tmp_path / "picture", max_pixels=1199).error_type == "too_large"
    assert decode(str(tmp_path / "picture"), max_pixels=1200).rgb.shape == (30, 40, 3)


@pytest.mark.thorough
def test_max_pixels_may_exceed_the_limit_of_pillow(tmp_path, monkeypatch):
    """In a run, Pillow's own limit does not count; outside of one it may refuse what is more than twice as large."""
    pixels = bytes(10_000 // 8 * 9000)
    plain_tiff(tmp_path / "x.tif", width=10_000, height=9000, pixels=pixels, tags={258: 1})
    quadrants(600, 500).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)

    assert "PIL.Image.MAX_IMAGE_PIXELS" in str(refusal(tmp_path / "x.png"))
    with decoding_settings():
        assert decode(str(tmp_path / "x.png"), max_pixels=90_000_000).rgb.shape == (500, 600, 3)
        assert decode(str(tmp_path / "x.tif"), max_pixels=90_000_000).rgb.shape == (9000, 10_000, 3)


def test_settings_of_pillow_are_put_back():
    """Importing and decoding leave them alone, and the last of several runs puts back what the first one found."""

    def settings():
        handlers = list(logging.getLogger("PIL").handlers)
        return Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS, handlers, list(warnings.filters)

    before = settings()
    first, second = decoding_settings(), decoding_settings()
    with second:
        with first:
            assert settings()[:2] == (None, 1)
            logging.getLogger("PIL").error("hidden")
            warnings.warn_explicit("hidden", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
        assert settings()[:2] == (None, 1)

    assert settings() == before
    assert before[:2] == (89_478_485, 0)


def test_tile_larger_than_max_pixels_is_refused(tmp_path):
    """A small TIFF may ask for tiles of any size, which the library would allocate."""
    tags = {322: 40_000, 323: 40_000, 324: 8, 325: 4}
    plain_tiff(tmp_path / "x.tif", width=2, height=2, pixels=bytes(4), tags=tags)

    assert "40000 x 40000" in str(refusal(tmp_path / "x.tif"))


@pytest.mark.parametrize("tags", [{254: 1}, {50706: 1}], ids=["thumbnail", "DNG"])
def test_camera_raw_is_refused_and_not_read_as_its_thumbnail(tmp_path, tags):
    """Camera raw files are TIFF files whose first picture is a thumbnail: better no faces than those."""
    plain_tiff(tmp_path / "x.tif", width=2, height=2, pixels=bytes(4), tags=tags)

    assert refusal(tmp_path / "x.tif").error_type == "unsupported"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "isom"),
    ],
)
def test_known_formats_that_are_not_read_are_named(tmp_path, head, said):
    """The message names the format, so that the user knows to convert."""
    (tmp_path / "x.jpg").write_bytes(head + bytes(100))
    error = refusal(tmp_path / "x.jpg")

    assert error.error_type == "unsupported"
    assert said in str(error)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_cut_short_is_truncated(tmp_path, file_format):
    """A file that ends early is refused as such, with its size."""
    quadrants(640, 480).save(tmp_path / "whole", file_format)
    cut_short(tmp_path / "whole", tmp_path / "cut")
    error = refusal(tmp_path / "cut")

    assert error.error_type == "truncated"
    assert f"{(tmp_path / 'cut').stat().st_size} bytes" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_picture_is_never_passed_on(tmp_path, kind):
    """Cut in the middle of its pixels, a file of any format is refused, though some libraries cannot say why."""
    mode, file_format, options, _ = KINDS[kind]
    quadrants(640, 480).convert(mode).save(tmp_path / "whole", file_format, **options)
    cut_short(tmp_path / "whole", tmp_path / "cut")

    assert refusal(tmp_path / "cut").error_type in ("truncated", "damaged")


def noise(size=(40, 30)):
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (*size[::-1], 3), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere_it_is_whole_or_refused(tmp_path, kind):
    """Whatever number of bytes is missing at the end, no pixel is another one than in the file as it was."""
    mode, file_format, options, _ = KINDS[kind]
    noise().convert(mode).save(tmp_path / "whole", file_format, **options)
    content = (tmp_path / "whole").read_bytes()
    whole = decode_bytes(content, max_pixels=10_000).rgb
    for missing in (*range(1, 65), *range(65, len(content) - 16, max(1, len(content) // 40))):
        rgb, error_type = outcome(content[:-missing])

        assert rgb is not None or error_type in ("truncated", "damaged"), f"{missing} bytes are missing"
        assert rgb is None or np.array_equal(rgb, whole), f"{missing} bytes are missing"


def outcome(content):
    """The pixels of a file, or why it is refused."""
    try:
        return decode_bytes(content, max_pixels=10_000).rgb, None
    except InputError as error:
        return None, error.error_type


def test_png_whose_pixels_do_not_fit_their_checksum():
    """Most changes of pixels do not inflate; of those that do, and were seen, only the checksum tells."""
    file = io.BytesIO()
    noise().save(file, "PNG")
    content = bytearray(file.getvalue())
    for at in (*range(content.index(b"IDAT") + 4, len(content) - 16, 97), len(content) - 16):
        content[at] ^= 1
        _, error_type = outcome(bytes(content))
        content[at] ^= 1

        assert error_type == "damaged"


def test_damaged_header_says_which_format(tmp_path):
    """A file that begins as a JPEG and goes on as something else is damaged, not unknown."""
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xdb\0\x04\xff\xff" + b"rubbish" * 20)
    error = refusal(tmp_path / "x.jpg")

    assert error.error_type == "damaged"
    assert "JPEG" in str(error)


def test_heic_with_a_damaged_item_type_does_not_end_the_process(tmp_path):
    """One bit of "Exif" flipped: pi-heif 1.4.0 would crash, so the file is refused before it."""
    content = (GOLDEN / "quadrants-turned.heic").read_bytes()
    (tmp_path / "x.heic").write_bytes(content.replace(b"Exif", b"E\xf8if", 1))
    script = (
        "import sys; from motivnet_cli.inputs.decode import decode\n"
        "try: decode(sys.argv[1], max_pixels=10**6)\n"
        "except Exception as error: print(error.error_type)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "x.heic"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip()) == (0, "damaged")


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin", "ignore::UserWarning:PIL.PngImagePlugin")
def test_no_damage_escapes_as_another_exception(tmp_path):
    """Of mutated files of all formats each gives a frame or an InputError with a clean sentence."""
    chance = random.Random(20_260_101)
    wholes = [
        *(saved(mode, file_format, options) for mode, file_format, options, _ in KINDS.values()),
        *(saved("RGB", each, {"save_all": True, "append_images": [quadrants().rotate(90)]}) for each in ("GIF", "PNG")),
        *((GOLDEN / name).read_bytes() for name in ("quadrants.heic", "quadrants-turned.heic")),
    ]
    outcomes = []
    for _ in range(600):
        (tmp_path / "picture").write_bytes(mutated(chance.choice(wholes), chance))
        try:
            outcomes.append(decode(str(tmp_path / "picture"), max_pixels=200_000))
        except InputError as error:
            outcomes.append(str(error))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]

    assert 200 < len(refusals) < 600
    assert not [message for message in refusals if "\n" in message or " at 0x" in message]


def saved(mode, file_format, options):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    quadrants().convert(mode).save(file, file_format, **options, **({} if mode == "LAB" else {"exif": exif}))
    return file.getvalue()


def mutated(content, chance):
    content = bytearray(content)
    if chance.random() < 0.2:
        return content[: chance.randrange(1, len(content))]
    if chance.random() < 0.2:
        place = chance.randrange(len(content))
        content[place : place + chance.randrange(20)] = chance.randbytes(chance.randrange(20))
        return content
    reach = chance.choice((len(content), min(300, len(content))))
    for _ in range(chance.choice((1, 2, 8, 30))):
        content[chance.randrange(reach)] = chance.choice((0, 255, chance.randrange(256)))
    return content


@pytest.mark.thorough
def test_threads_get_the_same_pictures(tmp_path):
    """Eight threads at once read what one thread reads, in every format."""
    paths = [GOLDEN / "quadrants.heic"]
    for kind, (mode, file_format, options, _) in KINDS.items():
        paths.append(tmp_path / kind)
        quadrants(300, 200).convert(mode).save(paths[-1], file_format, **options)
    alone = [rgb_of(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(rgb_of, paths * 8))

    assert all(np.array_equal(rgb, alone[i % len(paths)]) for i, rgb in enumerate(together))


@pytest.mark.skipif(not (SAMPLE_DATA / "astronaut.png").exists(), reason="sample_data/astronaut.png is missing")
def test_face_photo_says_where_its_faces_are(tmp_path):
    """The maker of face pictures for other tests puts a face, not ground, into the box it returns."""
    (box,) = face_photo(tmp_path / "x.png", faces=((200, 240, 150),), ground=(0, 0, 255))
    x1, y1, x2, y2 = (round(each) for each in box)
    rgb = rgb_of(tmp_path / "x.png")

    assert y2 - y1 == 150
    assert rgb[y1:y2, x1:x2, 0].mean() > 100
    assert rgb[:, 500:].reshape(-1, 3).max(axis=0).tolist() == [0, 0, 255]


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_give_the_pixels_of_the_file(tmp_path, kind):
    """A picture in memory is read as the same picture in a file is."""
    mode, file_format, options, _ = KINDS[kind]
    content = saved(mode, file_format, options)
    (tmp_path / "picture").write_bytes(content)

    assert np.array_equal(decode_bytes(content, max_pixels=MAX_PIXELS).rgb, rgb_of(tmp_path / "picture"))


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"\xff\xd8\xff\xdb\0\x04\xff\xffrubbish", saved("RGB", "BMP", {})[:900]]
)
def test_bytes_are_refused_as_the_file_is(tmp_path, content):
    """With the same type and sentence."""
    (tmp_path / "picture").write_bytes(content)
    expected = refusal(tmp_path / "picture")
    with pytest.raises(InputError) as caught:
        decode_bytes(content, max_pixels=MAX_PIXELS)

    assert (caught.value.error_type, str(caught.value)) == (expected.error_type, str(expected))
