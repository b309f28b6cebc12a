"""Crops whose eyes are level: where their pixels come from, and what a user sees of it."""

from __future__ import annotations

import json
from dataclasses import replace
from math import cos, radians, sin

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from motivnet_cli.catalogue import CARDS
from motivnet_cli.cli import app
from motivnet_cli.config import FaceConfig, LoaderConfig, VideoConfig
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.faces.crop import RECIPES, cut, eye_roll, to_pixels
from motivnet_cli.records import Face, Frame
from motivnet_cli.weights.load import load_model
from tests.pictures import SAMPLE_DATA

FILL = (200, 201, 202)
HEIGHT, WIDTH = 600, 800


def ramp(x, y):
    """A picture whose colour says where it is: a linear one, so that interpolation and means change nothing."""
    return np.stack([x / 8, y / 8, (x + y) / 16], axis=-1)


RAMP = ramp(*np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)).round().astype(np.uint8)


def places(centre, side, roll, rows, columns):
    """Where in the picture the pixels of a rotated square lie: x and y, each [rows, columns]."""
    u, v = np.meshgrid(
        ((np.arange(columns) + 0.5) / columns - 0.5) * side, ((np.arange(rows) + 0.5) / rows - 0.5) * side
    )
    c, s = cos(radians(roll)), sin(radians(roll))
    return centre[0] + u * c - v * s, centre[1] + u * s + v * c


def pixels(box, roll, *, recipe="stretch", size=(96, 72), margin=0.3, turn=0, rgb=RAMP):
    square = cut(rgb, box, margin=margin, fill_rgb=FILL, turn=turn, roll=roll)
    made = to_pixels(square, recipe=recipe, height=size[0], width=size[1], fill_rgb=FILL)
    return made.transpose(1, 2, 0).astype(int)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("roll", [-170, -90, -31, 0, 12.5, 180])
def test_pixels_come_from_where_the_rotated_square_is(recipe, roll):
    """Enlarged or shrunk, the colour of every pixel is that of its place in the picture."""
    for box in ((380.2, 270.0, 420.9, 320.0), (250.4, 150.0, 550.0, 430.0)):
        made = pixels(box, roll, recipe=recipe)

        if recipe == "pad":
            made = made[12:84]
        if recipe == "letterbox":
            made = made[12:84]
        side = round(max(1.3 * (box[3] - box[1]), box[2] - box[0]))
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        expected = ramp(*places(centre, side, roll, *made.shape[:2]))
        assert np.abs(made - expected).max() < 1.6, box


def test_large_faces_are_means_of_what_they_show():
    """To a small input a large face is averaged as without rotation: noise on it goes, and the ramp stays."""
    noise = np.random.default_rng(0).integers(-60, 61, (HEIGHT, WIDTH, 1))
    rgb = (RAMP.astype(int) + 100 + noise).astype(np.uint8)
    made = pixels((200.0, 100.0, 560.0, 460.0), 25, recipe="letterbox", size=(8, 8), margin=0, rgb=rgb)
    assert np.abs(made - 100 - ramp(*places((380, 280), 360, 25, 8, 8))).max() < 6


def test_outside_the_picture_is_the_fill_colour():
    """Of a square that reaches over two edges, and of one that lies outside, what is not picture is filled."""
    made = pixels((700.0, 500.0, 820.0, 620.0), 30)
    x, y = places((760, 560), 156, 30, *made.shape[:2])
    inside = (x > 1) & (x < WIDTH - 1) & (y > 1) & (y < HEIGHT - 1)
    outside = (x < -1) | (x > WIDTH + 1) | (y < -1) | (y > HEIGHT + 1)
    assert inside.sum() > 1000
    assert outside.sum() > 1000
    assert np.abs(made - ramp(x, y))[inside].max() < 1.6
    assert (made[outside] == FILL).all()
    assert (pixels((900.0, 100.0, 950.0, 150.0), 30) == FILL).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_level_face_is_cropped_as_without(recipe):
    """Where the square lies on whole pixels, a roll of 0 changes no colour by more than rounding.

    At its edge an enlarged square that is rotated has pixels between those within and those without.
    """
    rgb = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    box = (40.0, 30.0, 140.0, 130.0)
    given = {"rgb": rgb, "recipe": recipe, "margin": 0.2}
    differences = np.abs(pixels(box, 0, **given) - pixels(box, None, **given))
    num_resizes = 2 if recipe == "stretch-224" else 1
    assert differences[1:-1, 1:-1].max() <= num_resizes


# ---- faces ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def portrait():
    with Image.open(SAMPLE_DATA / "astronaut.png") as image:
        return image.convert("RGB").crop((60, 0, 400, 300))


@pytest.fixture(scope="module")
def model():
    return load_model("expression-net")


def preparer_of(model, **settings):
    return Preparer(model, FaceConfig(**settings), VideoConfig(), LoaderConfig())


@pytest.fixture(scope="module")
def preparers(model):
    return preparer_of(model, align=True), preparer_of(model)


def crops(preparer, image):
    """The one face of a picture, and its crop."""
    frame = Frame(np.array(image))
    ((face, _),) = preparer.find(frame, None).faces
    return face, preparer.crop(frame, face).astype(int)


def difference(a, b):
    """Mean, in the middle of two crops: about their edges another background is to be seen."""
    return np.abs(a - b)[:, 16:96, 16:96].mean()


@pytest.mark.parametrize("degrees", [-30, -15, 20, 30])
def test_a_tilted_portrait_is_cropped_as_an_upright_one(portrait, preparers, degrees):
    """Its crop is that of the picture before it was rotated, as nearly as the detector sees the eyes."""
    aligned, plain = preparers
    upright, reference = crops(aligned, portrait)
    x1, y1, x2, y2 = upright.box
    x, y = centre = ((x1 + x2) / 2, (y1 + y2) / 2)
    tilted = portrait.rotate(-degrees, Image.Resampling.BICUBIC, center=centre)
    c, s = cos(radians(degrees)), sin(radians(degrees))
    moved = tuple((x + (u - x) * c - (v - y) * s, y + (u - x) * s + (v - y) * c) for u, v in upright.landmarks)
    known = aligned.crop(Frame(np.array(tilted)), replace(upright, landmarks=moved)).astype(int)
    assert difference(known, reference) < 3

    face, crop = crops(aligned, tilted)
    assert eye_roll(face) - eye_roll(upright) == pytest.approx(degrees, abs=6)
    assert difference(crop, reference) < 0.6 * difference(crops(plain, tilted)[1], reference)
    again, _ = crops(aligned, Image.fromarray(crop.astype(np.uint8).transpose(1, 2, 0)))
    assert abs(eye_roll(again)) < 8


def turned(face, turn, width, height):
    """A face of a [height, width] picture in the same picture turned anticlockwise by `turn` degrees."""

    def moved(x, y):
        return {0: (x, y), 90: (y, width - x), 180: (width - x, height - y), 270: (height - y, x)}[turn]

    (xa, ya), (xb, yb) = moved(*face.box[:2]), moved(*face.box[2:])
    box = (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))
    return replace(face, box=box, landmarks=tuple(moved(*point) for point in face.landmarks), turn=turn)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_face_comes_out_upright(portrait, preparers, turn):
    """Of a picture on its side or upside down the crop is that of the upright one, aligned or not."""
    for preparer, allowed in zip(preparers, (1, 0), strict=True):
        face, _ = crops(preparer, portrait)
        face = replace(face, box=(120.0, 60.0, 210.0, 180.0))  # a square of 156 pixels about a whole pixel
        crop = preparer.crop(Frame(np.array(portrait)), face).astype(int)
        there = turned(face, turn, *portrait.size)

        lying = np.rot90(np.array(portrait), turn // 90)
        assert there.turn == turn
        assert np.abs(preparer.crop(Frame(lying), there) - crop).max() <= allowed


def test_a_roll_is_known_of_faces_whose_eyes_a_detector_saw():
    """Not of given and whole ones, where an eye is unknown, nor of a profile, whose eyes lie behind each other."""
    box = (0.0, 0.0, 80.0, 100.0)
    eyes = ((60.0, 50.0), (20.0, 30.0), None, None, None)
    assert eye_roll(Face(box, "detected", 1.0, eyes)) == pytest.approx(26.565, abs=1e-3)
    assert eye_roll(Face(box, "detected", 1.0, ((47.0, 40.0), (40.0, 33.0), None, None, None))) is None
    assert eye_roll(Face(box, "detected", 1.0, ((48.0, 40.0), (40.0, 33.0), None, None, None))) is not None
    assert eye_roll(Face(box, "detected", 1.0, (None, (20.0, 30.0), None, None, None))) is None
    assert eye_roll(Face(box, "given")) is eye_roll(Face(box, "whole")) is None


def test_the_model_says_whether_faces_are_aligned_where_the_user_does_not(model, portrait, preparers):
    """The card's word counts for faces that are found; a setting of the run goes before it."""
    assert not any(card.align for card in CARDS.values())
    asking = load_model("expression-net")
    object.__setattr__(asking, "card", replace(model.card, align=True))
    aligned, plain = (crops(preparer, portrait.rotate(20))[1] for preparer in preparers)
    np.testing.assert_array_equal(crops(preparer_of(asking), portrait.rotate(20))[1], aligned)
    np.testing.assert_array_equal(crops(preparer_of(asking, align=False), portrait.rotate(20))[1], plain)
    assert not FaceConfig(mode="whole").align_for(asking.card)


def test_a_run_says_what_it_could_not_align_and_is_computed_again(portrait, tmp_path):
    """The record has the setting, the rows come out the same again, and whole pictures are counted once."""
    for degrees in (-25, 25):
        portrait.rotate(degrees).save(tmp_path / f"{degrees}.png")
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "grey.png")
    command = ["annotate", str(tmp_path), "--model", "expression-net", "--faces", "auto"]
    results, emotions = [], []
    for option in ("--align", "--no-align"):
        out = tmp_path / f"p{option}.parquet"
        results.append(CliRunner().invoke(app, [*command, option, "--out", str(out)], catch_exceptions=False))
        table = pq.read_table(out)
        assert json.loads(table.schema.metadata[b"motivnet"])["settings"]["faces.align"] is (option == "--align")
        emotions.append(table.select(["neutral", "happiness"]).to_pylist())
    verified = CliRunner().invoke(app, ["verify", str(tmp_path / "p--align.parquet"), "--sample", "3"])

    words = "1 of 3 faces are cropped as they are, since no detector saw the eyes"
    assert [result.stderr.count(words) for result in results] == [1, 0]
    assert "3 rows were computed again" in verified.stdout
    assert verified.exit_code == 0
    assert [a == b for a, b in zip(*emotions, strict=True)] == [False, False, True]
