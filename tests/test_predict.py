"""`predict`: equal to `annotate` for every kind of picture, in order; the model loaded once; what is refused."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps

from motivnet_cli import (
    ConfigError,
    FaceConfig,
    InputConfig,
    InputError,
    LoaderConfig,
    ModelConfig,
    OutputConfig,
    RunConfig,
    annotate,
    in_memory,
    load_model,
    predict,
    read_faces,
)
from motivnet_cli.inputs.decode import decode_bytes, decode_image
from motivnet_cli.records import EMOTIONS
from tests.pictures import SAMPLE_DATA, face_photo, plain_tiff, quadrants, saved

MODEL = "expression-net"
MAX_PIXELS = 10**6


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`two.jpg`: two faces, stored on its side; `none.png`: no face."""
    folder = tmp_path_factory.mktemp("pictures")
    face_photo(folder / "upright.png", size=(640, 400), faces=((480, 200, 120), (160, 210, 160)))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder / "upright.png") as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(folder / "two.jpg", quality=95, exif=exif)
    (folder / "upright.png").unlink()
    quadrants(200, 150).save(folder / "none.png")
    return folder


@pytest.fixture(scope="module")
def annotated(folder, tmp_path_factory):
    """The rows that `annotate` writes of them."""
    out = str(tmp_path_factory.mktemp("annotated") / "p.parquet")
    annotate(
        RunConfig(
            inputs=InputConfig(paths=(str(folder),)),
            output=OutputConfig(path=out, embeddings="float32"),
            model=ModelConfig(name=MODEL, device="cpu"),
        )
    )
    return read_faces(out)


def in_three_kinds(path):
    with Image.open(path) as image:
        image.load()
    return {"path": path, "PIL": image, "numpy": np.asarray(ImageOps.exif_transpose(image))}


def assert_same_rows(rows, expected, tolerance):
    """Equal but for the name of the input; what the network says within the tolerance of batches."""
    computed = ("confidence", *EMOTIONS)
    same = pl.all().exclude("input", "embedding", *computed)
    assert rows.columns == expected.columns
    assert rows.select(same.cast(pl.String)).equals(expected.select(same.cast(pl.String)))
    for name in computed:
        np.testing.assert_allclose(rows[name].to_numpy(), expected[name].to_numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        rows["embedding"].to_numpy(), expected["embedding"].to_numpy(), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("kind", ["path", "PIL", "numpy"])
def test_the_rows_of_annotate(folder, annotated, model, kind):
    """A path, a PIL image and an array give the rows of `annotate` on the file, in its columns."""
    picture = predict(in_three_kinds(folder / "two.jpg")[kind], model, device="cpu")

    assert len(annotated) == 2
    assert_same_rows(picture.to_polars(), annotated, model.card.batch_tolerance)
    assert (picture.width, picture.height) == (640, 400)


def test_faces_say_what_the_table_says(folder, model):
    """The faces of a picture, from left to right, hold the values of its rows."""
    picture = predict(folder / "two.jpg", model, device="cpu")
    rows = picture.to_polars().to_dicts()

    assert [round(face.box[0] / 100) for face in picture.faces] == [1, 4], "left to right"
    for face, row in zip(picture.faces, rows, strict=True):
        np.testing.assert_allclose(face.box, [row[name] for name in ("x1", "y1", "x2", "y2")], rtol=1e-6)
        assert (face.emotion, face.source, face.turn) == (row["emotion"], row["face_source"], row["turn"])
        assert face.landmarks[2] == pytest.approx((row["nose_x"], row["nose_y"]))
        assert face.score == pytest.approx(row["detection_score"])
        assert face.probabilities == pytest.approx({name: row[name] for name in EMOTIONS})
        assert face.confidence == max(face.probabilities.values()) == face.probabilities[face.emotion]
        assert face.embedding.tolist() == row["embedding"]


def test_a_list(folder, annotated, model):
    """One result a picture, in order, in batches that pictures share; one without a face has none."""
    kinds = in_three_kinds(folder / "two.jpg")
    pictures = predict([kinds["numpy"], folder / "none.png", kinds["PIL"], kinds["PIL"]], model, device="cpu")
    rows = pictures.to_polars()

    assert [picture.input for picture in pictures] == ["[0]", str(folder / "none.png"), "[2]", "[3]"]
    assert [len(picture.faces) for picture in pictures] == [2, 0, 2, 2]
    assert rows["input"].to_list() == ["[0]", "[0]", "[2]", "[2]", "[3]", "[3]"]
    assert pictures[1].to_polars().columns == rows.columns
    for picture in (pictures[0], pictures[2], pictures[3]):
        assert_same_rows(picture.to_polars(), annotated, model.card.batch_tolerance)


def test_one_by_one_and_from_many_threads(folder, annotated, model):
    """Other batches give the same rows, and so do calls at the same time, which wait for each other."""
    paths = (folder / "two.jpg", folder / "two.jpg", folder / "none.png")
    singly = predict(paths, model, device="cpu", batch_size=1)
    with ThreadPoolExecutor(3) as pool:
        called = list(pool.map(lambda path: predict(path, model, device="cpu"), paths))

    assert [len(picture.faces) for picture in (*singly, *called)] == [2, 2, 0] * 2
    for picture in (*singly[:2], *called[:2]):
        assert_same_rows(picture.to_polars(), annotated, model.card.batch_tolerance)
    with pytest.raises(ConfigError, match="batch size must be at least 1"):
        predict(paths, model, batch_size=0)


def test_an_empty_list(model):
    """It has no pictures, and a table without rows."""
    pictures = predict([], model, device="cpu")

    assert len(pictures) == 0
    assert pictures.to_polars().shape[0] == 0
    assert "happiness" in pictures.to_polars().columns


def test_a_model_is_loaded_once(folder, model, monkeypatch):
    """By name it is kept for the next call; what `load_model` gave is not read at all."""
    loaded = []
    load = in_memory.load_network
    monkeypatch.setattr(in_memory, "load_network", lambda config: loaded.append(config.name) or load(config))
    in_memory._network.cache_clear()

    predict(folder / "none.png", MODEL, device="cpu")
    predict([folder / "none.png"], MODEL, device="cpu")
    assert loaded == [MODEL]

    predict(folder / "none.png", model, device="cpu")
    assert loaded == [MODEL]


def test_another_precision_of_a_converted_model(folder):
    """A network that was rounded to bf16 does not pass for fp32."""
    model = load_model(MODEL)
    predict(folder / "none.png", model, device="cpu", precision="bf16")

    with pytest.raises(ConfigError, match="already converted to bf16, and cannot be brought to fp32"):
        predict(folder / "none.png", model, device="cpu", precision="fp32")


GREY = np.zeros((4, 4), np.uint8)
REFUSED = {
    "a float array": (np.zeros((4, 4, 3)), r"uint8 \[H, W, 3\] in RGB, got one of float64"),
    "a grey array": (GREY, r"got the shape \[4, 4\]"),
    "a stack": (np.zeros((2, 4, 4, 3), np.uint8), r"got the shape \[2, 4, 4, 3\]: make a list"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), "4 x 0 pixels"),
    "bytes": (b"\xff\xd8\xff", "got builtins.bytes"),
    "a nested list": ([GREY], "got builtins.list"),
    "floating point": (Image.new("F", (4, 4)), "mode 'F' is not known"),
    "32-bit integers": (Image.new("I", (4, 4)), "mode 'I' is not known"),
    "no file": ("nowhere.jpg", r"nowhere\.jpg: cannot be read: No such file"),
    "a folder": (SAMPLE_DATA, "sample_data: a folder stands where a picture was expected"),
    "a video": (SAMPLE_DATA / "face.mp4", r"face\.mp4' is of a kind with many pictures \(video\): annotate reads it"),
    "an archive": ("pictures.tar.gz", r"of a kind with many pictures \(archive\)"),
    "channels first": (np.zeros((3, 4, 5), np.uint8), r"shape \[3, 4, 5\]: its channels come first, so give .transp"),
    "an RGBA array": (np.zeros((4, 4, 4), np.uint8), r"got the shape \[4, 4, 4\]: .* a PIL image of grey or RGBA"),
    "a generator": ((name for name in ("a.jpg",)), "got builtins.generator; give several as a list"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_pictures(model, what):
    """The error says what was wrong, and in a list of which."""
    picture, message = REFUSED[what]
    if not isinstance(picture, list):
        with pytest.raises(InputError, match=message) as alone:
            predict(picture, model, device="cpu")
        assert not str(alone.value).startswith("[")
    with pytest.raises(InputError, match=rf"^\[1\]: .*{message}"):
        predict([quadrants(), picture], model, device="cpu")


def test_settings(folder, model):
    """Settings of faces and of reading hold as they do for `annotate`."""
    assert len(predict(folder / "two.jpg", model, device="cpu", faces=FaceConfig(max_faces=1)).faces) == 1
    [whole] = predict(folder / "none.png", model, device="cpu", faces=FaceConfig(mode="whole")).faces
    assert (whole.source, whole.score, whole.landmarks) == ("whole", None, None)
    with pytest.raises(InputError, match="64 x 48 = 3072 pixels, more than the 3000"):
        predict(quadrants(), model, device="cpu", loader=LoaderConfig(max_pixels=3000))


def test_drawing(folder, model):
    """The upright picture, with something drawn where the faces are and nothing far from them."""
    kinds = in_three_kinds(folder / "two.jpg")
    for content in kinds.values():
        picture = predict(content, model, device="cpu")
        drawn = np.asarray(picture.draw()).astype(int)

        difference = abs(drawn - kinds["numpy"]).max(axis=2)  # [H, W]
        x1, y1, x2, _ = (round(edge) for edge in picture.faces[0].box)
        assert (difference[y1 + 1, x1 : x2 - 1] > 0).mean() > 0.9, "the upper edge of the box"
        assert difference[:20].max() == 0, "above the faces"


def test_drawing_a_file_that_is_another_by_now(tmp_path, model):
    """Boxes are not drawn on a picture of another size."""
    quadrants().save(tmp_path / "a.png")
    picture = predict(tmp_path / "a.png", model, device="cpu")
    quadrants(80, 40).save(tmp_path / "a.png")

    with pytest.raises(InputError, match="it was 64 x 48 pixels when its faces were found, and is 80 x 40 now"):
        picture.draw()


def test_pandas(folder, model, monkeypatch):
    """The same table; where pandas is missing, the error says what to do."""
    picture = predict(folder / "two.jpg", model, device="cpu")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ConfigError, match="pip install pandas, or take to_polars"):
            picture.to_pandas()

    pytest.importorskip("pandas")
    frame = picture.to_pandas()
    assert list(frame.columns) == picture.to_polars().columns
    assert list(frame["emotion"]) == picture.to_polars()["emotion"].to_list()


def _with_alpha():
    picture = quadrants().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


def _palette():
    picture = quadrants().quantize(16)
    picture.info["transparency"] = 3
    return picture


def _deep_grey():
    grey = np.asarray(quadrants().convert("L")).astype(np.uint16) * 257 + 3
    return Image.fromarray(grey)


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 8
    return saved("JPEG", quality=95, exif=exif)


FILES = {
    "alpha": lambda: saved("PNG", _with_alpha()),
    "grey and alpha": lambda: saved("PNG", _with_alpha().convert("LA")),
    "palette": lambda: saved("PNG", _palette()),
    "black and white": lambda: saved("PNG", quadrants().convert("1")),
    "16 bits": lambda: saved("PNG", _deep_grey()),
    "16 bits in TIFF": lambda: saved("TIFF", _deep_grey()),
    "CMYK": lambda: saved("JPEG", quadrants().convert("CMYK")),
    "turned": _turned,
    "turned TIFF": lambda: saved("TIFF", exif=Image.open(io.BytesIO(_turned())).getexif()),
}


@pytest.mark.parametrize("what", FILES)
def test_modes(what):
    """A picture that Pillow has opened has the pixels of its file, as often as it is asked, and keeps what it says."""
    content = FILES[what]()
    image = Image.open(io.BytesIO(content))
    image.load()
    info = dict(image.info)

    for _ in range(2):
        assert np.array_equal(
            decode_image(image, max_pixels=MAX_PIXELS).rgb, decode_bytes(content, max_pixels=MAX_PIXELS).rgb
        )
    assert image.info == info


def test_kinds_that_a_file_is_refused_for(tmp_path):
    """Pixels that are refused in a file are refused in what Pillow made of it."""
    plain_tiff(tmp_path / "signed.tif", width=2, height=1, pixels=b"\0\1", tags={339: 2})
    with Image.open(tmp_path / "signed.tif") as image, pytest.raises(InputError, match="signed or 32-bit integer"):
        decode_image(image, max_pixels=MAX_PIXELS)


def test_an_orientation_in_xmp_is_none():
    """As in a file, only EXIF turns a picture, and what XMP says stays with the image."""
    image = quadrants()
    image.info["xmp"] = b'<rdf:Description tiff:Orientation="6"/>'

    assert np.array_equal(decode_image(image, max_pixels=MAX_PIXELS).rgb, np.asarray(image))
    assert list(image.info) == ["xmp"]
