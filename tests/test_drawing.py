"""Faces on their pictures, read from the pixels: boxes where they are, plates that hide neither face nor plate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image, ImageColor

from motivnet_cli.export import drawing
from motivnet_cli.export.drawing import DrawnFace, draw_faces, enlarged
from motivnet_cli.records import EMOTIONS

GROUND = (120, 130, 140)
COLOURS = [ImageColor.getrgb(name) for name in drawing._COLOURS]


def face(box, number=0, *, probabilities=(0.6, 0.3, 0.1, 0, 0, 0, 0), names=EMOTIONS):
    return DrawnFace(
        box=box,
        number=number,
        emotion=names[int(np.argmax(probabilities))],
        confidence=max(probabilities),
        probabilities=tuple(zip(names, probabilities, strict=False)),
    )


def drawn(faces, size=(640, 480), *, ground=GROUND, bars=True):
    """The picture with the faces, int [H, W, 3]."""
    image = Image.new("RGB", size, ground)
    draw_faces(image, faces, bars=bars)
    return np.asarray(image).astype(int)


def is_colour(picture, colour):
    return (picture == colour).all(axis=2)


def changed(picture, ground=GROUND):
    return (picture != ground).any(axis=2)


def longest_runs(mask):
    """The longest run of true in every row."""
    return [max((len(list(run)) for value, run in itertools.groupby(row) if value), default=0) for row in mask.tolist()]


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), COLOURS[0]], ids=str)
def test_the_edge_lies_within_the_box_on_any_ground(ground):
    """Its colour stands on the first and last pixels of the box, beside dark ones; the face itself is left as it is."""
    picture = drawn([face((200, 150, 300, 290))], ground=ground)

    for y, x in ((220, 200), (220, 299), (150, 250), (289, 250)):
        assert tuple(picture[y, x]) == COLOURS[0]
    for y, x in ((220, 199), (220, 300), (290, 250)):
        assert picture[y, x].max() < 170, "no light beside the edge"
    assert not changed(picture, ground)[160:280, 210:290].any()


def test_bars_are_as_long_as_the_probabilities():
    """The three highest, each below the other; the longest white run of a row is its bar."""
    runs = longest_runs(is_colour(drawn([face((200, 300, 400, 470))], bars=True), (255, 255, 255)))
    bars = [max(run) for is_bar, run in ((k, list(g)) for k, g in itertools.groupby(runs, lambda n: n > 4)) if is_bar]
    unit = 480 // 30

    assert [bars[0], bars[1]] == pytest.approx([0.6 * 3 * unit, 0.3 * 3 * unit], abs=1)
    alone = drawn([face((200, 300, 400, 470))], bars=False)
    assert max(longest_runs(is_colour(alone, (255, 255, 255)))) < 0.2 * 3 * unit
    assert changed(alone)[:300].sum() < 0.5 * changed(drawn([face((200, 300, 400, 470))]))[:300].sum()


@pytest.mark.parametrize("corner", [(0, 0), (560, 0), (0, 410), (560, 410), (-30, 430), (300, 440)], ids=str)
def test_a_plate_at_an_edge_is_whole(corner):
    """As many pixels are covered as where there is room on all sides, and none of the face."""
    x, y = corner
    middle = changed(drawn([face((300, 200, 380, 270))]))[:, :].sum()
    mask = changed(drawn([face((x, y, x + 80, y + 70))]))

    cut_off = 12 * 80  # at most, of the outlines of boxes that reach beyond the picture
    assert middle - cut_off <= mask.sum() <= middle
    assert not mask[y + 6 : min(y + 64, 474), max(x, 0) + 6 : x + 74].any()


@pytest.mark.parametrize(("count", "bars"), [(2, True), (6, True), (6, False)])
def test_no_plate_covers_a_face_or_another_plate(count, bars):
    """In a row of people each plate is seen as whole as if its face were alone, and so is what is within each box."""
    faces = [face((20 + 150 * n, 200, 150 + 150 * n, 360), n) for n in range(count)]
    picture = drawn(faces, (1000, 700), bars=bars)

    letters = [is_colour(drawn([each], (1000, 700), bars=False), (255, 255, 255)).sum() for each in faces]
    assert is_colour(picture, (255, 255, 255)).sum() >= sum(letters)
    for each, colour in zip(faces, COLOURS, strict=False):
        alone = is_colour(drawn([each], (1000, 700), bars=False), colour).sum()
        assert is_colour(picture, colour).sum() >= 0.98 * alone
        x1, y1, x2, y2 = each.box
        assert not changed(picture)[y1 + 8 : y2 - 8, x1 + 8 : x2 - 8].any()


def test_a_crowd_shows_its_faces():
    """Sixty faces: hardly anything of them is hidden."""
    faces = [
        face((40 + 190 * x, 60 + 200 * y, 130 + 190 * x, 175 + 200 * y), 10 * y + x)
        for x in range(10)
        for y in range(6)
    ]
    mask = changed(drawn(faces, (1920, 1280)))
    hidden = [mask[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6].mean() for x1, y1, x2, y2 in (each.box for each in faces)]

    assert np.mean(hidden) < 0.01


def test_plates_lie_over_all_boxes():
    """The first plate is whole where a later box crosses it."""
    first, bare = (
        face((100, 200, 260, 400), 1),
        DrawnFace(box=(100, 200, 260, 400), number=1, emotion=None, confidence=None, probabilities=()),
    )
    badge = is_colour(drawn([first]), COLOURS[1]).sum() - is_colour(drawn([bare]), COLOURS[1])[200:400].sum()
    both = is_colour(drawn([first, face((90, 10, 300, 460), 2)]), COLOURS[1])

    assert both.sum() >= 0.95 * badge > 1000


def test_a_whole_picture_has_its_label_in_the_corner():
    """The middle of a crop, which is the face, is seen."""
    picture = changed(drawn([face((0, 0, 400, 400))], (400, 400)))

    assert picture[10:20, 10:60].all()
    assert not picture[150:390, 10:390].any()


@pytest.mark.parametrize(("size", "larger"), [((48, 48), 5), ((112, 150), 3), ((240, 320), 1), ((10, 4000), 1)])
def test_a_picture_too_small_for_letters_is_enlarged(size, larger):
    """By a whole factor, with its boxes; a strip is not made into a picture that no machine can hold."""
    image, [each] = enlarged(Image.new("RGB", size, GROUND), [face((4, 8, 20, 30))])

    assert image.size == (size[0] * larger, size[1] * larger)
    assert each.box == (4 * larger, 8 * larger, 20 * larger, 30 * larger)
    draw_faces(image, [each])


@pytest.mark.parametrize("side", [64, 1000, 2000])
def test_sizes_go_with_the_picture(side):
    """On a picture that is shown ten times smaller, the letters are ten times larger."""
    box = (side * 0.3, side * 0.3, side * 0.6, side * 0.7)
    heights = np.flatnonzero(changed(drawn([face(box)], (side, side)))[: int(side * 0.29)].any(axis=1))

    if side > 64:
        assert 0.08 < len(heights) / side < 0.14


@pytest.mark.parametrize(
    "names",
    [
        ["x" * 500, "y"],
        ["a very long name of a class that somebody has made", "b"],
        ["радость", "العربية"],
        ["\N{GREEK SMALL LETTER ALPHA}" * 90, "β"],
    ],
    ids=["no spaces", "long", "scripts", "greek"],
)
def test_names_of_any_length_and_script(names, caplog):
    """They are cut off where they are long; what the usual font has is drawn without a word."""
    mask = changed(drawn([face((200, 150, 300, 290), probabilities=(0.7, 0.3), names=names)]))

    assert mask[:150].any()
    assert not mask[:, :4].any()
    assert not caplog.records


def test_letters_that_no_font_has_are_said_once(caplog):
    """Boxes in place of letters do not come in silence."""
    drawing._font_file.cache_clear()
    for number in range(2):
        drawn([face((200, 150, 300, 290), number, probabilities=(0.7, 0.3), names=["a\U0010fffd", "b"])])

    [record] = [record for record in caplog.records if "no font" in record.message]
    assert "\U0010fffd" in record.message


def test_faces_without_emotions_are_boxes_with_their_number():
    """Of a model without classes there is nothing to write but whose face it is."""
    bare = DrawnFace(box=(200, 150, 300, 290), number=3, emotion=None, confidence=None, probabilities=())

    assert is_colour(drawn([bare]), COLOURS[3])[:149].any()
    assert not changed(drawn([DrawnFace(box=bare.box, number=None, emotion=None, confidence=None, probabilities=())]))[
        :140
    ].any()
