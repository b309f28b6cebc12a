"""A picture file -> one upright RGB frame, and every way in which that can fail -> an InputError.

The functions may be called from many threads. Runs set Pillow up before (`inputs.pillow`): without that, its own
limit on the size of a picture holds beside `max_pixels`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import AvifImagePlugin, Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from motivnet_cli.errors import InputError, error_type_of, first_line
from motivnet_cli.inputs.jpeg import jpeg_pixels
from motivnet_cli.inputs.picture_parts import PARTS, only_orientation
from motivnet_cli.records import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_HEAD_BYTES = 256
"""Enough for every signature, and for the list of brands that opens an AVIF or HEIC file."""

_MAX_PARTS_BYTES = 256 << 20
"""Larger files are not brought into memory for the sake of their metadata: Pillow reads them as they are."""

_BAND_PIXELS = 1 << 18
"""Pixels that are converted at a time: see `upright_rgb`."""

_READ_FAILURES = (
    # What the file system, Pillow, pi-heif and the libraries below them raise for bad files. The plain Python
    # errors are Pillow's own parsers tripping over a damaged header: seen under fuzzing, or in its issues.
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    RuntimeError,
    MemoryError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where the caller has made warnings into errors
    ImageCms.PyCMSError,
    UserWarning,  # as above
)


def decode(path: str, *, max_pixels: int, apart: Callable[[str], Frame] | None = None) -> Frame:
    """Read the first picture of a file as an upright RGB frame.

    The format is told from the content, never from the name: JPEG (of an MPO the first picture), PNG, WebP, GIF,
    BMP, TIFF, HEIC, AVIF, JPEG 2000 and PBM/PGM/PPM; of an animation or of many pages, the first. EXIF
    orientation is applied; a broken EXIF block counts as none, and no other metadata can fail a picture.
    Transparency is laid on white, as viewers show it; one that is complete everywhere counts as none. Grey of 16
    bits is divided by 257, so that 65535 becomes 255. Colour profiles are not applied.

    Args:
        path: Name of the file as Python spells it (surrogate escapes for bytes that are not UTF-8).
        max_pixels: The largest width times height that is decoded; more is refused on the header alone.
        apart: Decodes the file in place of this function if its decoder is not known to end soon and without a crash,
            whatever it holds (`picture_processes`). None decodes all files here.

    Returns:
        `rgb` is uint8 [H, W, 3], C-contiguous, writable, 0 to 255; `index` and `time_s` are None.

    Raises:
        InputError: The file cannot be used. Its `error_type` is one of not_found, broken_link, link_loop,
            permission_denied, is_a_folder, not_a_file, empty_file, read_error, not_an_image, unsupported,
            damaged, truncated, zero_size, too_large, out_of_memory.
    """
    size_bytes = _size_of_regular_file(path)
    try:
        # An open file and not its name: given a name, Pillow maps raw pixels into memory, and a mapped file
        # that shrinks while it is read kills the process (SIGBUS).
        with Path(path).open("rb") as file:
            frame = _frame(file, size_bytes, max_pixels, is_left_apart=apart is not None)
    except _READ_FAILURES as error:  # of opening
        raise _as_input_error(error, "file", size_bytes) from error
    if frame is None:
        assert apart is not None, "else nothing is left apart"
        return apart(path)
    return frame


def decode_bytes(data: bytes, *, max_pixels: int, apart: Callable[[bytes], Frame] | None = None) -> Frame:
    """As `decode`, from the bytes of a file: a member of an archive, or what came over the network.

    Raises:
        InputError: As `decode`, less the types that are about names.
    """
    if not data:
        raise InputError("empty_file", "the file holds 0 bytes")
    frame = _frame(BytesIO(data), len(data), max_pixels, is_left_apart=apart is not None)
    if frame is None:
        assert apart is not None, "else nothing is left apart"
        return apart(data)
    return frame


def decode_image(image: Image.Image, *, max_pixels: int) -> Frame:
    """As `decode`, from a picture that Pillow has opened or made; of an animation, the frame that it stands at.

    It is loaded, and is otherwise left as it is. Its pixels are those that Pillow gives, also of a damaged JPEG.

    Raises:
        InputError: As `decode_bytes`, or `unsupported`: its mode does not say which values are black and white.
    """
    name = f"{image.format or 'picture'} in memory"
    if 0 in image.size:
        raise InputError("zero_size", f"the picture has {image.width} x {image.height} pixels")
    if image.mode not in _PLAIN_MODES and not (image.mode == "I" and isinstance(image, PpmImageFile)):
        raise InputError(
            "unsupported", f"which values are black and white in mode {image.mode!r} is not known: convert it to RGB"
        )
    try:
        _refuse_by_size(image, max_pixels)
        if isinstance(image, ImageFile):
            _refuse_by_kind(image)
        image.load()
        info, image.info = image.info, dict(image.info)  # reading the orientation takes something out
        try:
            return Frame(upright_rgb(image, _orientation(image)))
        finally:
            image.info = info
    except MemoryError as error:
        raise InputError("out_of_memory", f"no memory was left for this {name}") from error
    except _READ_FAILURES as error:
        raise InputError("damaged", f"this {name} cannot be decoded: {first_line(error)}") from error


_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I;16B")
"""Of Pillow: those in which the values of colours are known, from black to white."""


def upright_size(path: str) -> tuple[int, int]:
    """Width and height of the frame that `decode` would make of a file, from its header alone.

    Raises:
        InputError: The file cannot be opened as a picture.
    """
    name, size_bytes = "file", _size_of_regular_file(path)
    try:
        with Path(path).open("rb") as file:
            name = _format_of(file.read(_HEAD_BYTES))
            file.seek(0)
            image = _open(file, name, size_bytes)
            width, height = image.size
            is_upright = isinstance(image, TiffImageFile)  # its size is, before its pixels are
            _, by_columns, _ = _UPRIGHT[1 if is_upright else _orientation(image)]
    except _READ_FAILURES as error:
        raise _as_input_error(error, name, size_bytes) from error
    return (height, width) if by_columns else (width, height)


def _frame(file: IO[bytes], size_bytes: int, max_pixels: int, *, is_left_apart: bool) -> Frame | None:
    """The picture; None for one that is to be decoded apart, if there is somebody who does."""
    name = "file"
    try:
        head = file.read(_HEAD_BYTES)
        name = _format_of(head)
        if is_left_apart and (name not in _BOUNDED or size_bytes > _MAX_PARTS_BYTES):
            return None
        file.seek(0)
        image = _open(file, name, size_bytes)
        _refuse_by_size(image, max_pixels)
        _refuse_by_kind(image)
        pixels = _pixels_of_jpeg(image, size_bytes) if isinstance(image, JpegImageFile) else None
        if pixels is not None:
            return Frame(_upright(pixels, _orientation(image)))
        image.load()
        return Frame(upright_rgb(image, _orientation(image)))
    except _READ_FAILURES as error:
        raise _as_input_error(error, name, size_bytes) from error


def _open(file: IO[bytes], name: str, size_bytes: int) -> ImageFile:
    """Pillow's image, from the parts of the file that pixels are made from; its orientation is put back unread."""
    if name not in PARTS or size_bytes > _MAX_PARTS_BYTES:
        return _OPENERS[name](file)
    parts = PARTS[name](file.read())
    image = _OPENERS[name](BytesIO(parts.content))
    if exif := only_orientation(parts.exif):
        image.info["exif"] = exif
    return image


def _pixels_of_jpeg(image: JpegImageFile, size_bytes: int) -> NDArray[np.uint8] | None:
    """As `jpeg_pixels`; None also if the file is too large to be taken into memory."""
    if size_bytes > _MAX_PARTS_BYTES:
        return None
    assert image.fp is not None
    image.fp.seek(0)
    return jpeg_pixels(image.fp.read())


def _size_of_regular_file(path: str) -> int:
    """Size in bytes; refuses whatever must not be opened, since opening a named pipe waits for a writer."""
    try:
        status = Path(path).stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and Path(path).is_symlink():
            target = os.fspath(Path(path).readlink())
            message = f"the link points to {target!r}, which does not exist"
            raise InputError("broken_link", message) from error
        raise _as_input_error(error, "file", 0) from error
    except ValueError as error:
        raise InputError("not_found", f"no file can have this name: {error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError("is_a_folder", "a folder stands where a picture was expected")
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), "special file")
        raise InputError("not_a_file", f"a {kind} stands where a picture was expected")
    if status.st_size == 0:
        raise InputError("empty_file", "the file holds 0 bytes")
    return status.st_size


_KINDS = ((stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "character device"))


def _format_of(head: bytes) -> str:
    """The key of `_OPENERS` for a file that begins so."""
    name = next((name for signature, name in _SIGNATURES if head.startswith(signature)), "")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        name = "WebP"
    elif head[4:8] == b"ftyp":
        name = _format_of_brand(head)
    if not name:
        known = ", ".join(_OPENERS)
        raise InputError("not_an_image", f"the file begins with {head[:12]!r}, as none of {known} does")
    if name not in _OPENERS:
        raise InputError("unsupported", f"the file is {name}, which is not read: convert it to JPEG or PNG")
    size_at, layout = _WIDTH_AND_HEIGHT.get(name, (len(head), ""))
    if len(head) >= size_at + struct.calcsize(layout):
        size = struct.unpack_from(layout, head, size_at)
        if 0 in size:
            raise InputError("zero_size", f"the {name} header says {size[0]} x {size[1]} pixels")
    return name


def _format_of_brand(head: bytes) -> str:
    """AVIF and HEIC share their container with videos: brands say which it is (ISO/IEC 14496-12, 23008-12)."""
    brand = head[8:12]
    compatible = head[16 : int.from_bytes(head[:4], "big")]
    if brand in (b"avif", b"avis") or (brand in (b"mif1", b"msf1") and b"avif" in compatible):
        return "AVIF"
    if brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"):
        return "HEIC"
    return f"a video or another container of brand {brand.decode('ascii', 'replace').strip()!r}"


_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "a big-endian BigTIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    *((b"P%d%c" % (number, space), "PPM") for number in range(1, 7) for space in b" \t\r\n#"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"<svg", "SVG"),
)
"""How files begin. A name that `_OPENERS` lacks is a format that people do have, but that is not read."""

_WIDTH_AND_HEIGHT = {"PNG": (16, ">II"), "BMP": (18, "<ii")}
"""Where a size of zero can be read: Pillow would only say that it does not know the file."""


def _open_avif(file: IO[bytes]) -> ImageFile:
    """Without the EXIF item, a broken one of which Pillow refuses: orientation stands in the container."""
    content = bytearray(file.read())
    for found in _ITEM_INFO.finditer(content):
        if content[found.end() : found.end() + 4] == b"Exif":
            content[found.end() : found.end() + 4] = b"none"
    return AvifImagePlugin.AvifImageFile(BytesIO(content))


def _open_heic(file: IO[bytes]) -> ImageFile:
    import pi_heif  # only where a HEIC file comes: it loads libheif, and other runs never need it

    # One thread a picture, for `decode` is called from as many threads as there are cores. Setting it again
    # is harmless, and Python imports a module once however many threads ask.
    pi_heif.options.DECODE_THREADS = 1
    content = file.read()
    for found in _ITEM_INFO.finditer(content):
        end = found.start() + int.from_bytes(found[0][:4], "big")
        content[found.end() : end].decode()  # a UnicodeDecodeError ends as `damaged`
    image: ImageFile = pi_heif.HeifImageFile(BytesIO(content))
    return image


_ITEM_INFO = re.compile(rb"\0...infe(?:\x03.{9}|[^\x03].{7})", re.DOTALL)
"""The part of an ItemInfoEntry box (ISO/IEC 14496-12) before its type and names, which are text. pi-heif 1.4.0
kills the process where they are not UTF-8: one bit flipped in the four letters of "Exif" is enough."""


# The plugins' own classes in place of `Image.open`: no other parser can be reached (Pillow knows some that
# start programs, such as Ghostscript), and a refusal says why, where `Image.open` says "cannot identify".
_OPENERS: dict[str, Callable[[IO[bytes]], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "HEIC": _open_heic,
    "AVIF": _open_avif,
    "JPEG 2000": Jpeg2KImageFile,
    "PPM": PpmImageFile,
}


_BOUNDED = frozenset({"JPEG", "PNG", "WebP", "GIF"})
"""Of these, parts that cost time or memory are counted or left out before a decoder sees them. Of the others some take
hours for a few megabytes (PPM as text with comments), or come from decoders that crashed on damaged files (libheif)."""


def _refuse_by_size(image: Image.Image, max_pixels: int) -> None:
    sizes = {"the picture is": image.size}
    if isinstance(image, TiffImageFile):  # libtiff allocates a whole tile, however small the picture
        sizes["a tile of the picture is"] = (_tag(image, _TILE_WIDTH), _tag(image, _TILE_LENGTH))
    for what, (width, height) in sizes.items():
        if width * height > max_pixels:
            raise InputError(
                "too_large",
                f"{what} {width} x {height} = {width * height} pixels, more than the {max_pixels} of "
                f"--max-pixels: raise it or shrink the picture",
            )


def _refuse_by_kind(image: ImageFile) -> None:
    """Refuse pixels whose meaning is not known, or that Pillow is known to read wrongly: see test_picture_layouts."""
    if isinstance(image, TiffImageFile):
        _refuse_values_of_tiff(image)
        _refuse_layout_of_tiff(image)
    elif isinstance(image, JpegImageFile) and image.mode == "CMYK" and "adobe" not in image.info:
        raise InputError("unsupported", "its inks may be inverted (CMYK without a mark of Adobe's): convert it to RGB")
    elif isinstance(image, BmpImageFile) and image.info.get("compression") == BmpImageFile.COMPRESSIONS["BITFIELDS"]:
        assert image.fp is not None
        image.fp.seek(0)
        header = image.fp.read(70)
        (header_bytes,), (bits,), (alpha,) = (
            struct.unpack_from(*at) for at in (("<I", header, 14), ("<H", header, 28), ("<I", header, 66))
        )
        if bits == 16 and header_bytes >= 56 and alpha:
            raise InputError("unsupported", "transparency in pixels of 16 bits is not read: convert it to PNG")


def _refuse_values_of_tiff(image: TiffImageFile) -> None:
    """Refuse values whose colour is not known."""
    # Camera raw files are TIFF files too; the first picture in them is a thumbnail or unfinished pixels.
    if _tag(image, _NEW_SUBFILE_TYPE) & 1 or _DNG_VERSION in image.tag_v2:
        raise InputError("unsupported", "the file is camera raw or a thumbnail: convert it to JPEG")
    if image.mode in ("I", "F") or _tag(image, _SAMPLE_FORMAT) not in (0, 1):
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit integer"
        message = f"which values are black and white in {kind} pixels is not known: save it with 8 or 16 bits"
        raise InputError("unsupported", message)
    if _tag(image, _PHOTOMETRIC) == _PALETTE:
        palette = image.tag_v2.get(_COLOR_MAP, ())
        if len(palette) != 3 << _tag(image, _BITS_PER_SAMPLE) or 0 < max(palette) < 256:
            raise InputError("unsupported", "its palette is short or of 8 bits where 16 are due: convert it to PNG")


def _refuse_layout_of_tiff(image: TiffImageFile) -> None:
    """Refuse layouts of which Pillow would make other pixels."""
    bits, num_samples = _tag(image, _BITS_PER_SAMPLE), _tag(image, _SAMPLES_PER_PIXEL)
    compression = _tag(image, _COMPRESSION)
    is_plain, is_planar = compression == 1, _tag(image, _PLANAR) == 2
    if is_planar and (num_samples == 2 or (is_plain and bits not in (0, 8))):
        message = f"{num_samples} samples of {bits} bits in planes of their own are not read: save it as pixels"
        raise InputError("unsupported", message)
    if _tag(image, _FILL_ORDER) == 2 and is_plain and bits == 8:
        raise InputError("unsupported", "bytes whose bits are in reverse order are not read: save it as usual")
    predictor = _tag(image, _PREDICTOR)
    if predictor > 1 and (predictor != 2 or compression not in _PREDICTED or bits not in (8, 16)):
        message = f"predictor {predictor} with compression {compression} and {bits} bits is not read: save it without"
        raise InputError("unsupported", message)
    if _tag(image, _PHOTOMETRIC) == _YCBCR and is_plain:
        raise InputError("unsupported", "uncompressed YCbCr is not read: save it as RGB")


_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES_PER_PIXEL = 254, 258, 262, 277
_COMPRESSION, _FILL_ORDER, _PLANAR, _PREDICTOR, _COLOR_MAP, _SAMPLE_FORMAT = 259, 266, 284, 317, 320, 339
_PALETTE, _YCBCR = 3, 6
_PREDICTED = (5, 8, 32946, 34925, 50000)
"""LZW, Deflate by both its numbers, LZMA and Zstandard: with others libtiff takes differences for values."""
_TILE_WIDTH, _TILE_LENGTH, _DNG_VERSION = 322, 323, 50706
_ORIENTATION = 0x0112


def _tag(image: TiffImageFile, tag: int) -> int:
    """An integer tag of a TIFF file, the first of several, or 0."""
    value = image.tag_v2.get(tag, 0)
    return int(value[0] if isinstance(value, tuple) else value)


_EXIF_SUBSTITUTES = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow looks for an orientation if EXIF says none."""


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none to be read. TIFF and HEIC come upright and say 1."""
    for substitute in _EXIF_SUBSTITUTES:
        image.info.pop(substitute, None)
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _READ_FAILURES:
        return 1
    return orientation if orientation in _UPRIGHT else 1


_UPRIGHT = {
    1: (None, False, False),
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, False),
    3: (Image.Transpose.ROTATE_180, False, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False),
    6: (Image.Transpose.ROTATE_270, True, False),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, True, True),
}
"""By EXIF orientation: how to turn it upright, whether upright rows are stored as columns, and whether the
upright top is stored last."""


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Stored pixels [H, W, 3] turned upright."""
    if orientation == 1:
        return pixels
    whole = pixels.view("V3")[:, :, 0]  # [H, W]: a pixel is moved as one, in half the time
    _, by_columns, top_is_last = _UPRIGHT[orientation]
    left_is_last = orientation in (2, 3, 6, 7)
    whole = whole.T if by_columns else whole
    whole = np.ascontiguousarray(whole[:: -1 if top_is_last else 1, :: -1 if left_is_last else 1])
    return whole.view(np.uint8).reshape(*whole.shape, 3)


def upright_rgb(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    """The pixels as uint8 [H, W, 3], upright.

    They are turned and converted in bands that fit a cache: for a JPEG of 12 megapixels that is 17 ms in place
    of 58 for one `np.asarray`, 28 in place of 105 with a quarter turn, and no second picture in memory.
    """
    turn, by_columns, from_end = _UPRIGHT[orientation]
    width, height = reversed(image.size) if by_columns else image.size
    to_rgb = _converter(image)
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first, last = (height - bottom, height - top) if from_end else (top, bottom)
        band = image.crop((first, 0, last, width) if by_columns else (0, first, width, last))
        rgb[top:bottom] = to_rgb(band if turn is None else band.transpose(turn))
    return rgb


def _converter(image: Image.Image) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """What makes [H, W, 3] (or [H, W, 1], to be repeated) of a piece of this picture."""
    if image.mode.startswith("I"):
        bits, is_white_zero = 16, False
        if isinstance(image, TiffImageFile):  # Pillow leaves both to us above 8 bits
            bits, is_white_zero = _tag(image, _BITS_PER_SAMPLE), _tag(image, _PHOTOMETRIC) == 0
        transparent = image.info.get("transparency")
        return lambda band: _grey_to_8_bits(
            np.asarray(band), bits=bits, is_white_zero=is_white_zero, transparent=transparent
        )
    if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema() == (0, 0):
        return lambda band: np.asarray(band.convert("RGB"))  # written by programs that leave it unset
    if image.has_transparency_data:
        return _on_white
    if image.mode == "RGB":  # `convert` would copy it
        return np.asarray
    return lambda band: np.asarray(band.convert("RGB"))


def _grey_to_8_bits(
    grey: NDArray[np.integer], *, bits: int, is_white_zero: bool, transparent: int | None
) -> NDArray[np.uint8]:
    """Scale full white to 255, rounded; Pillow's own conversion would clip everything above 255 to white.

    Pixels of the `transparent` value become white.
    """
    white = (1 << bits) - 1
    scaled = (grey.astype(np.uint32) * 255 + white // 2) // white
    scaled = 255 - scaled if is_white_zero else scaled
    if transparent is not None:
        scaled[grey == transparent] = 255
    return scaled.astype(np.uint8)[:, :, np.newaxis]  # [H, W, 1]


def _on_white(band: Image.Image) -> NDArray[np.uint8]:
    rgba = band.convert("RGBA")
    white = Image.new("RGB", band.size, (255, 255, 255))
    white.paste(rgba, mask=rgba)
    return np.asarray(white)


def _as_input_error(error: BaseException, name: str, size_bytes: int) -> InputError:
    """One of the `_READ_FAILURES`, put into a stable type and one sentence."""
    if isinstance(error, OSError) and error.errno is not None:  # of the file system; Pillow gives no number
        return InputError(error_type_of(error), f"cannot be read: {error.strerror}")
    if isinstance(error, MemoryError):
        return InputError("out_of_memory", f"no memory was left for this {name} of {size_bytes} bytes")
    reason = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return InputError("too_large", f"Pillow refuses this {name} by PIL.Image.MAX_IMAGE_PIXELS: {reason}")
    if " " not in reason:  # a bare KeyError, and such
        reason = "its header makes no sense"
    if any(word in reason.lower() for word in _TRUNCATED) or isinstance(error, EOFError):
        return InputError("truncated", f"the {name} file of {size_bytes} bytes is cut short: {reason}")
    if any(word in reason.lower() for word in _UNSUPPORTED):
        return InputError("unsupported", f"this {name} is of a kind that is not read, convert it: {reason}")
    return InputError("damaged", f"the {name} file of {size_bytes} bytes is damaged: {reason}")


_TRUNCATED = ("truncated", "end of file", "eof", "incomplete", "not enough image data", "requires a buffer of")
_UNSUPPORTED = (
    "unsupported",
    "unknown pixel mode",
    "unknown raw mode",
    "string index out of range",
    "to l not supported",
)
"""What Pillow, libavif and libheif say of such files: they have no exception types for it. The last two are said of a
TIFF with more planes than its kind of pixel has, and of grey multiplied by its alpha."""
