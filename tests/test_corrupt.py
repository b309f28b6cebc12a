"""Corruptions of pictures: each does what its name says, more so with severity, and the same in every run."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.ndimage import gaussian_filter

from motivnet_cli.config import CORRUPTIONS, SEVERITIES, Corruption, FaceConfig, LoaderConfig, VideoConfig
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.faces.corrupt import STRENGTHS, corrupt
from motivnet_cli.records import Frame, GivenFace, Item
from motivnet_cli.weights.load import load_model
from tests.pictures import SAMPLE_DATA, face_photo

BOX = Image.Resampling.BOX
every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)


def portrait(side=224):
    with Image.open(SAMPLE_DATA / "astronaut.png") as picture:
        return np.array(picture.convert("RGB").crop((140, 15, 312, 200)).resize((side, side)))


def distance(a, b):
    return np.abs(a.astype(int) - b).mean()


@every_corruption
@pytest.mark.parametrize("side", [48, 224, 500])
def test_a_corruption_grows_with_its_severity(name, side):
    """Each severity takes a face further from what it was, whatever its size."""
    rgb = portrait(side)
    before = rgb.copy()
    distances = [distance(corrupt(rgb, Corruption(name, severity), ()), rgb) for severity in SEVERITIES]

    assert distances[0] > 0.1
    assert distances == sorted(set(distances))
    assert np.array_equal(rgb, before), "the picture itself stays"


@every_corruption
def test_a_corruption_is_the_same_in_every_thread(name):
    """The picture decides what is drawn: not the number of the call, the thread, or how its memory lies."""
    rgb, other = portrait(), portrait()[:, ::-1]
    corruption = Corruption(name, 3)
    expected = corrupt(rgb, corruption, ()), corrupt(other, corruption, ())
    with ThreadPoolExecutor(2) as pool:
        for number, found in enumerate(pool.map(lambda each: corrupt(each, corruption, ()), [rgb, other] * 4)):
            assert np.array_equal(found, expected[number % 2])


@every_corruption
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (2, 3), (700, 500)])
def test_pictures_of_every_size_are_corrupted(name, shape):
    """From one pixel up the result has the size of the picture, at every severity, and can be written to."""
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for severity in (1, 5):
        changed = corrupt(rgb, Corruption(name, severity), ())
        assert (changed.shape, changed.dtype) == (rgb.shape, np.uint8)
        assert changed.flags.writeable


@every_corruption
def test_a_grey_picture_stays_grey(name):
    """No corruption gives colours to a picture that has none."""
    grey = np.repeat(portrait()[:, :, :1], 3, axis=2)
    changed = corrupt(grey, Corruption(name, 5), ())
    assert (changed == changed[:, :, :1]).all()


def test_values_of_a_picture_of_one_colour():
    """By hand, at severity 3 (of the table): brightness adds 0.3 of the range to the largest channel, hue kept."""
    rgb = np.full((64, 64, 3), (100, 50, 0), np.uint8)

    assert corrupt(rgb, Corruption("brightness", 3), ())[0, 0].tolist() == [176, 88, 0]  # 100 + 76.5, and half of it
    assert corrupt(rgb, Corruption("contrast", 3), ())[0, 0].tolist() == [100, 50, 0]
    assert corrupt(np.zeros_like(rgb), Corruption("brightness", 3), ())[0, 0].tolist() == [76, 76, 76]
    grey = np.full((1024, 1024, 3), 127, np.uint8)
    noise = corrupt(grey, Corruption("noise", 1), [(0, 0, 224, 224)]).astype(float) - 127
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.01)
    assert abs(noise.mean()) < 0.1
    covered = corrupt(np.zeros((100, 200, 3), np.uint8), Corruption("occlusion", 3), ())
    assert (covered == 127).all(axis=2).mean() == pytest.approx(STRENGTHS["occlusion"][2], abs=0.01)
    halves = np.zeros((10, 10, 3), np.uint8)
    halves[:5] = 200
    assert np.unique(corrupt(halves, Corruption("contrast", 3), ())).tolist() == [80, 120]  # 100 +- 0.2 * 100


def as_imagenet_c(rgb, name, strength):
    """The corruption of a picture of 224 x 224 pixels by ImageNet-C's formula, in other libraries."""
    if name == "jpeg":
        file = BytesIO()
        Image.fromarray(rgb).save(file, "JPEG", quality=strength)
        return np.asarray(Image.open(file)).astype(float)
    if name == "resolution":
        side = int(224 * strength)
        return np.asarray(Image.fromarray(rgb).resize((side, side), BOX).resize((224, 224), BOX)).astype(float)
    shares = rgb / 255
    if name == "blur":
        return 255 * gaussian_filter(shares, (strength, strength, 0), mode="nearest")
    if name == "brightness":
        shares = rgb_to_hsv(shares)
        shares[:, :, 2] = np.clip(shares[:, :, 2] + strength, 0, 1)
        return 255 * hsv_to_rgb(shares)
    means = shares.mean(axis=(0, 1))
    return 255 * np.clip((shares - means) * strength + means, 0, 1)


@pytest.mark.parametrize(
    ("name", "most"), [("blur", 3), ("jpeg", 0), ("brightness", 0.501), ("contrast", 0.501), ("resolution", 0)]
)
def test_a_picture_of_224_pixels_is_corrupted_as_in_imagenet_c(name, most):
    """Within rounding, and a blur within 3 grey levels: Pillow's is three boxes. At its edges it is further off."""
    rgb = portrait()
    inside = slice(20, -20) if name == "blur" else slice(None)
    for severity, strength in zip(SEVERITIES, STRENGTHS[name], strict=True):
        differences = np.abs(corrupt(rgb, Corruption(name, severity), ()) - as_imagenet_c(rgb, name, strength))
        assert differences[inside, inside].max() <= most


@pytest.mark.parametrize("name", ["blur", "noise", "resolution"])
def test_sizes_are_those_of_the_face(name):
    """A picture twice as large, shrunk after the corruption, is about as far off; one with a small face is less."""
    rgb = portrait(448)
    small = np.array(Image.fromarray(rgb).resize((224, 224), BOX))

    def shrunk(picture):
        return np.array(Image.fromarray(picture).resize((224, 224), BOX))

    corruption = Corruption(name, 4)
    assert distance(shrunk(corrupt(rgb, corruption, ())), small) == pytest.approx(
        distance(corrupt(small, corruption, ()), small), rel=0.1
    )
    of_a_small_face = corrupt(rgb, corruption, [(100, 100, 212, 212)])
    assert distance(shrunk(of_a_small_face), small) < 0.8 * distance(shrunk(corrupt(rgb, corruption, ())), small)


def test_noise_does_not_depend_on_the_bands_of_its_computation(monkeypatch):
    """Grains of 3.3 pixels, computed on five rows at a time, are those of the whole picture at once."""
    rgb = portrait(740)
    whole = corrupt(rgb, Corruption("noise", 2), ())
    monkeypatch.setattr("motivnet_cli.faces.corrupt._BAND_PIXELS", 5 * 740)
    assert np.array_equal(corrupt(rgb, Corruption("noise", 2), ()), whole)


@pytest.mark.parametrize("name", ["noise", "brightness", "contrast"])
def test_memory_is_bounded_by_the_picture(name, monkeypatch):
    """What is computed in floats or indices is a band of the picture, however large it is."""
    monkeypatch.setattr("motivnet_cli.faces.corrupt._BAND_PIXELS", 1 << 13)
    rgb = portrait(500)
    tracemalloc.start()
    try:
        corrupt(rgb, Corruption(name, 3), ())
        assert tracemalloc.get_traced_memory()[1] < 4 * rgb.nbytes
    finally:
        tracemalloc.stop()


def test_an_occluder_lies_in_each_face_and_grows_where_it_is():
    """Every box has a block of its own within the picture, and a severer one covers the milder."""
    rgb = np.zeros((100, 300, 3), np.uint8)
    boxes = [(10.0, 10.0, 60.0, 60.0), (200.0, 20.0, 260.0, 90.0), (280.0, -20.0, 340.0, 40.0)]
    covered = [(corrupt(rgb, Corruption("occlusion", severity), boxes) == 127).all(axis=2) for severity in SEVERITIES]

    for x1, y1, x2, y2 in ((10, 10, 60, 60), (200, 20, 260, 90), (280, 0, 300, 40)):
        inside = covered[2][y1:y2, x1:x2]
        assert inside.mean() == pytest.approx(STRENGTHS["occlusion"][2], abs=0.03)
    assert all((severer | milder == severer).all() for milder, severer in pairwise(covered))
    for mask in covered:
        for x1, y1, x2, y2 in ((10, 10, 60, 60), (200, 20, 260, 90), (280, 0, 300, 40)):
            mask[y1:y2, x1:x2] = False
        assert not mask.any()


def test_what_no_jpeg_can_hold_is_refused():
    """A side beyond a JPEG's limit is an input that failed, with its size."""
    with pytest.raises(InputError, match="1 x 65501 pixels cannot be compressed") as refused:
        corrupt(np.zeros((65501, 1, 3), np.uint8), Corruption("jpeg", 1), ())
    assert refused.value.error_type == "too_large"


def prepared(path, *, corruption, given=None, mode="detect"):
    preparer = Preparer(
        load_model("expression-net"), FaceConfig(mode=mode), VideoConfig(), LoaderConfig(corruption=corruption)
    )
    return preparer.image(Item(0, path.name, str(path), "image", given=given))


def test_faces_are_found_in_the_corrupted_picture(tmp_path):
    """The block lies on the face of the clean picture, and the detector is less sure of what it leaves."""
    (box,) = face_photo(tmp_path / "face.png")
    (clean,), (covered,), (given,) = (
        prepared(tmp_path / "face.png", corruption=corruption, given=boxes).crops
        for corruption, boxes in (
            (None, None),
            (("occlusion", 5), None),
            (("occlusion", 5), (GivenFace(box),)),
        )
    )

    assert covered.face.score < clean.face.score
    for crop, least in ((clean, 0), (covered, 0.1), (given, 0.1)):
        assert least <= (crop.pixels == 127).all(axis=0).mean() < least + 0.4


def test_frames_of_videos_are_corrupted():
    """A frame goes the way of a picture."""
    config = LoaderConfig(corruption=("contrast", 5))
    preparer = Preparer(load_model("expression-net"), FaceConfig(mode="whole"), VideoConfig(), config)
    frame = Frame(portrait(), index=0, time_s=0.0)
    (crop,) = preparer.frame(Item(0, "v.mp4", "/v.mp4", "video"), 0, frame).crops

    assert np.ptp(crop.pixels, axis=(1, 2)).max() < 40
    assert np.ptp(preparer.crop(frame, crop.face), axis=(1, 2)).max() > 200


@pytest.mark.parametrize(
    ("corruption", "words"), [(("fog", 1), "no corruption is called 'fog'; there are blur,"), (("blur", 6), "got '6'")]
)
def test_an_unknown_corruption_is_refused(corruption, words):
    """A setting that names no corruption, or no severity, is answered with what there is."""
    with pytest.raises(ConfigError, match=words):
        LoaderConfig(corruption=corruption)
