"""The square around a face, and the input recipes against what OpenCV computes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from motivnet_cli.errors import ConfigError
from motivnet_cli.faces.crop import RECIPES, cut, image_rows, to_pixels

GOLDEN = Path(__file__).parent / "golden"
ASTRONAUT = Path(__file__).parents[1] / "sample_data" / "astronaut.png"
MEAN, STD = np.array([123.5, 116.5, 103.5]), np.array([58.5, 57.0, 57.5])
FILL = (1, 2, 3)


def read(path):
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def noise(height, width):
    return np.random.default_rng(0).integers(10, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("recipe", ["stretch", "pad"])
@pytest.mark.parametrize("name", ["astronaut", "landscape", "small"])
def test_recipe_equals_opencv(name, recipe):
    """MotivNet's recipes are within one grey level of the reference everywhere, and 0.3 on average."""
    golden = np.load(GOLDEN / "recipes.npz")
    rgb = read(GOLDEN / f"recipe_{name}.png")

    pixels = to_pixels(rgb, recipe=recipe, height=1024, width=768, fill_rgb=FILL).transpose(1, 2, 0)

    differences = np.abs(pixels[3::8, 5::8].astype(int) - golden[f"{name}_{recipe}_rgb_every8"])
    assert differences.max() <= 1
    assert differences.mean() <= 0.3
    normalised = (pixels - MEAN) / STD
    np.testing.assert_allclose(normalised.mean(axis=(0, 1)), golden[f"{name}_{recipe}_mean"], atol=0.3 / 57)
    np.testing.assert_allclose(normalised.std(axis=(0, 1)), golden[f"{name}_{recipe}_std"], atol=0.3 / 57)


def test_letterbox_equals_the_expression_networks_reference():
    """FaceExpressionNet's reference input is met grey level by grey level."""
    golden = np.load(GOLDEN / "expression_golden.npz")
    x1, y1, x2, y2 = golden["crop_xyxy"]

    pixels = to_pixels(read(ASTRONAUT)[y1:y2, x1:x2], recipe="letterbox", height=112, width=112, fill_rgb=(0, 0, 0))

    mean = np.array([122.782, 117.001, 104.298], np.float32)[:, None, None]
    np.testing.assert_allclose((pixels - mean) / 255, golden["normalised_input"][0], atol=1e-5)


@pytest.mark.parametrize("size", [(60, 30), (448, 224), (3000, 1500)])
def test_letterbox_keeps_the_aspect(size):
    """A picture twice as high as wide fills half of the width, centred between bands of the fill colour."""
    pixels = to_pixels(noise(*size), recipe="letterbox", height=112, width=112, fill_rgb=FILL)

    band = np.broadcast_to(np.array(FILL, np.uint8)[:, None, None], (3, 112, 28))
    np.testing.assert_array_equal(pixels[:, :, :28], band)
    np.testing.assert_array_equal(pixels[:, :, 84:], band)
    assert pixels[:, :, 28:84].min() >= 10


@pytest.mark.parametrize("side", [700, 1344, 1350])
def test_letterbox_shrinks_large_pictures_to_means(side):
    """Each pixel is the mean of the area under it: whole blocks first change it by less than a level on average."""
    slope = np.linspace(0, 200, side)
    rgb = (noise(side, side) // 5 + (slope[:, None, None] + slope[None, :, None]) / 2).astype(np.uint8)

    pixels = to_pixels(rgb, recipe="letterbox", height=7, width=7, fill_rgb=FILL)

    edges = np.linspace(0, side, 8).round().astype(int)
    means = np.add.reduceat(np.add.reduceat(rgb.astype(float), edges[:-1], 0), edges[:-1], 1)
    counts = np.diff(edges)[:, None, None] * np.diff(edges)[None, :, None]
    assert np.abs(pixels.transpose(1, 2, 0) - means / counts).mean() < 1


def test_letterbox_of_a_thread_of_a_picture_is_one_pixel_high():
    """A picture 6000 times as wide as high still has a row in the result."""
    pixels = to_pixels(np.full((1, 6000, 3), 200, np.uint8), recipe="letterbox", height=112, width=112, fill_rgb=FILL)

    assert (pixels[0] == 200).any(axis=1).sum() == 1


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (128, 96), (301, 200)])
def test_pixels_are_contiguous_at_the_networks_size(recipe, size):
    """Every recipe gives uint8 [3, H, W] without gaps, and a flat picture keeps its colour."""
    pixels = to_pixels(np.full((*size, 3), 77, np.uint8), recipe=recipe, height=128, width=96, fill_rgb=(77, 77, 77))

    assert (pixels.shape, pixels.dtype) == ((3, 128, 96), np.uint8)
    assert pixels.flags.c_contiguous
    top, bottom = image_rows(recipe, 128, 96)
    assert (pixels[:, top:bottom] == 77).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_pixels_do_not_depend_on_how_the_array_lies_in_memory(recipe):
    """A read-only or mirrored view, or one with gaps, gives what its plain copy gives, and is not changed."""
    rgb = noise(40, 60)
    rgb.flags.writeable = False
    for view in (rgb, rgb[::-1, ::-1], rgb[3:30, 7:31]):
        given_ = view.copy()
        size = {"height": 32, "width": 24, "fill_rgb": FILL}

        np.testing.assert_array_equal(to_pixels(view, recipe=recipe, **size), to_pixels(given_, recipe=recipe, **size))
        np.testing.assert_array_equal(view, given_)


@pytest.mark.parametrize(("recipe", "size"), [("stretch", (96, 72)), ("pad", (72, 72))])
def test_recipe_does_not_antialias(recipe, size):
    """To a third of the size every pixel is the middle one of nine: the reference's resize averages no more."""
    rgb = noise(*size)

    pixels = to_pixels(rgb, recipe=recipe, height=32, width=24, fill_rgb=FILL)

    top, bottom = image_rows(recipe, 32, 24)
    np.testing.assert_array_equal(pixels[:, top:bottom].transpose(1, 2, 0), rgb[1::3, 1::3])


def test_stretch_224_makes_an_image_of_affectnets_size_first():
    """To 224 x 224 by means of the areas that fall on a pixel, or bilinear to enlarge, and from there as `stretch`."""
    size = {"height": 1024, "width": 768, "fill_rgb": FILL}
    large, small = noise(672, 336), noise(100, 80)
    means = large.repeat(2, axis=1).reshape(224, 3, 224, 3, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    enlarged = np.array(Image.fromarray(small).resize((224, 224), Image.Resampling.BILINEAR))

    for rgb, first in ((large, means), (small, enlarged), (means, means)):
        pixels = to_pixels(rgb, recipe="stretch-224", **size).astype(int)
        assert np.abs(pixels - to_pixels(first, recipe="stretch", **size)).max() <= (first is not rgb)


def test_same_size_is_untouched():
    """A picture of the network's size goes through `stretch` unchanged, in a copy of its own."""
    rgb = noise(32, 24)

    pixels = to_pixels(rgb, recipe="stretch", height=32, width=24, fill_rgb=FILL)

    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), rgb)
    assert not np.shares_memory(pixels, rgb)


def test_pad_has_white_bands():
    """`pad` has white above and below the rows that `image_rows` names, and image between."""
    pixels = to_pixels(np.zeros((5, 9, 3), np.uint8), recipe="pad", height=1024, width=768, fill_rgb=FILL)

    assert image_rows("pad", 1024, 768) == (128, 896)
    assert (pixels[:, :128] == 255).all()
    assert (pixels[:, 896:] == 255).all()
    assert (pixels[:, 128:896] == 0).all()


def test_image_rows_of_other_recipes_are_all():
    """Only `pad` has rows without image."""
    assert image_rows("stretch", 1024, 768) == image_rows("letterbox", 1024, 768) == (0, 1024)


def test_unknown_recipe_is_named():
    """An unknown recipe is refused with the ones that exist."""
    with pytest.raises(ConfigError, match=r"'squeeze'.*stretch, pad, stretch-224, letterbox"):
        image_rows("squeeze", 1024, 768)
    with pytest.raises(ConfigError, match="squeeze"):
        to_pixels(noise(4, 4), recipe="squeeze", height=8, width=8, fill_rgb=FILL)


def test_pad_of_a_wide_input_is_refused():
    """`pad` cannot put bands above and below in an input wider than high."""
    with pytest.raises(ConfigError, match="768 x 512"):
        image_rows("pad", 512, 768)


def test_threads_agree():
    """Several threads at once give what one gives."""
    pictures = [noise(50 + 7 * k, 90) for k in range(16)]

    def pixels(rgb):
        return to_pixels(rgb, recipe="letterbox", height=64, width=64, fill_rgb=FILL)

    expected = [pixels(rgb) for rgb in pictures]
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for actual, one in zip(pool.map(pixels, pictures), expected, strict=True):
            np.testing.assert_array_equal(actual, one)


coordinate = st.floats(-60, 100, allow_nan=False)
length = st.floats(0, 60, allow_nan=False)


@pytest.mark.thorough
@given(x=coordinate, y=coordinate, width=length, height=length, margin=st.floats(0, 1))
def test_cut_is_the_square_around_the_box(x, y, width, height, margin):
    """The crop is the picture on an endless ground of the fill colour, seen through the square, wherever it lies."""
    rgb = noise(30, 40)
    ground = np.empty((830, 840, 3), np.uint8)
    ground[:] = FILL
    ground[400:430, 400:440] = rgb

    crop = cut(rgb, (x, y, x + width, y + height), margin=margin, fill_rgb=FILL)

    side = crop.shape[0]
    assert crop.shape == (side, side, 3)
    assert abs(side - max(1, (1 + margin) * height, width)) <= 0.5 + 1e-9
    lefts = whole_pixels_near(400 + x + width / 2 - side / 2)
    tops = whole_pixels_near(400 + y + height / 2 - side / 2)
    assert any(np.array_equal(crop, ground[t : t + side, m : m + side]) for t in tops for m in lefts)


def whole_pixels_near(value):
    """The nearest whole number; both neighbours of a half, which may be rounded either way."""
    return {round(value - 1e-6), round(value + 1e-6)}


def test_cut_inside_is_a_slice():
    """A square wholly inside the picture is that part of it, with no copy made."""
    rgb = noise(100, 120)

    crop = cut(rgb, (40.0, 30.0, 60.0, 50.0), margin=0.5, fill_rgb=FILL)

    np.testing.assert_array_equal(crop, rgb[25:55, 35:65])
    assert np.shares_memory(crop, rgb)


def test_cut_across_the_edge_is_filled():
    """What lies outside has the fill colour, what lies inside keeps its place."""
    rgb = noise(100, 120)

    crop = cut(rgb, (-10.0, -5.0, 10.0, 15.0), margin=0, fill_rgb=FILL)

    np.testing.assert_array_equal(crop[5:, 10:], rgb[:15, :10])
    assert (crop[:5] == FILL).all()
    assert (crop[:, :10] == FILL).all()


def test_cut_of_a_wide_box_covers_it():
    """A box wider than (1 + margin) times its height gives a square as wide as the box."""
    assert cut(noise(100, 100), (20.0, 40.0, 80.0, 60.0), margin=0.3, fill_rgb=FILL).shape == (60, 60, 3)
