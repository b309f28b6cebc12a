"""The page about a run: true counts, the same for few rows and many, and nothing that leaves it."""

from __future__ import annotations

import itertools
import re
import shutil
import zipfile
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.filters import NO_FILTERS, Filters
from motivnet_cli.export.source import Source
from motivnet_cli.export.summary import Summary
from motivnet_cli.records import EMOTIONS
from motivnet_cli.report.looks import looks_of
from motivnet_cli.report.pages import clock, whole_percent
from motivnet_cli.report.predictions import write_page
from motivnet_cli.report.run_rows import RunRows, map_of
from motivnet_cli.report.timelines import timelines
from tests.exported import VIDEO, face, output
from tests.pictures import SAMPLE_DATA, face_photo
from tests.test_export_tables import synthetic
from tests.test_summary import seen, story


@pytest.fixture(scope="module")
def preds(tmp_path_factory):
    """The sample pictures and clip, and a file that is none."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(SAMPLE_DATA, folder / "in", ignore=shutil.ignore_patterns("grace*", "face*"))
    (folder / "in" / "<b>bad.jpg").write_bytes(b"no picture")
    command = [
        "annotate",
        str(folder / "in"),
        "--model",
        "expression-net",
        "--track",
        "--out",
        str(folder / "p.parquet"),
    ]
    assert CliRunner().invoke(app, command).exit_code == 3
    return folder / "p.parquet"


@pytest.fixture(scope="module")
def page_file(preds):
    return write_page(str(preds), str(preds.with_name("r.html")))


def test_the_page_says_what_is_in_the_tables(preds, page_file):
    """Counts, the failure by name and reason, a timeline, faces as thumbnails; names stay text."""
    page = page_file.read_text()
    rows = pl.read_parquet(preds)
    num_pictures = rows["frame"].null_count()
    stills = rows.filter(pl.col("frame").is_not_null()).unique(["input", "frame"]).height

    assert f"{len(rows)} faces, {num_pictures} in photographs and {len(rows) - num_pictures} in frames" in page
    assert re.findall(r"<h3>(\w+)</h3><p class=\"big\">(\d+)<", page) == [
        *(("ok", "3"), ("no_face", "0"), ("partial", "0"), ("failed", "1"))
    ]
    assert "&lt;b&gt;bad.jpg" in page
    assert "<b>bad" not in page
    assert "not_an_image" in page
    assert re.findall(r'<figure class="timeline"><h3>(.*)</h3>', page) == ["interview.mp4"]
    assert page.count('aria-label="Frame at') == stills
    portraits = re.findall(r'data:image/jpeg;[^"]*" alt="A face of ([^"]*)"', page)
    assert portraits == ["track 0", "track 1", "this row"]
    galleries = rows.group_by("emotion").len()["len"].clip(upper_bound=6).sum() * 2
    assert len(re.findall(r'data:image/jpeg;[^"]*" alt="Face named', page)) == galleries
    assert '<span class="none">' not in page
    assert "cannot be used" not in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)


class _Tables(HTMLParser):
    """The tables of a page by the name of their region, as rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.tables, self._rows = {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if dict(attributes).get("role") == "region":
            self._rows = self.tables.setdefault(dict(attributes)["aria-label"], [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("th", "td") and self._rows is not None:
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        if tag == "table":
            self._rows = None

    def handle_data(self, data):
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] += data.strip()


FILTERS = Filters(smooth_s=3, min_duration_s=2)


@pytest.mark.parametrize("filters", [NO_FILTERS, FILTERS])
def test_people_are_those_of_the_summary(filters, tmp_path):
    """Persons of a video and folders of photographs: seconds or faces, every share, episodes, as `summary` has them."""
    video = [*story("v.mp4", [1, 0.75, 0.25, None, 0, 1], track=4), *story("v.mp4", [0, 1, 1], number=1, track=7)]
    video.sort(key=lambda row: row["frame"])
    photos = [seen("p1/a.jpg", None, 1), seen("p1/b.jpg", None, 0), seen("p1/b.jpg", None, 1, number=1)]
    inputs = {"v.mp4": VIDEO, "p1/a.jpg": {}, "p1/b.jpg": {}, "c.jpg": {}}
    path = output(tmp_path, [*video, *photos, seen("c.jpg", None, 0)], inputs)
    page = write_page(str(path), str(tmp_path / "r.html"), filters=filters).read_text()
    people, folders = (_Tables(part).tables["Shares of emotions in percent"] for part in page.split("In photographs"))

    def shares(row):
        return [f"{100 * row[f'{name}_share']:.1f}" for name in EMOTIONS]

    expected = [
        [
            f"{row['input']}, track {row['track']}",
            f"{row['seconds']:.1f}",
            *shares(row),
            str(row["episodes"]),
            str(row["transitions"]),
        ]
        for row in Summary(path, by="track", filters=filters).rows()
        if row["kind"] == "video"
    ]
    assert people[1:] == expected
    assert [row[:2] for row in people[1:]] == [["v.mp4, track 4", "5.0"], ["v.mp4, track 7", "3.0"]]
    expected = [
        [row["folder"], str(row["faces"]), *shares(row)]
        for row in Summary(path, by="folder", filters=filters).rows()
        if row["kind"] == "image"
    ]
    assert folders[1:] == expected
    assert [row[:2] for row in folders[1:]] == [["p1", "3"], [".", "1"]]
    assert ("probabilities averaged over 3 s" in page) == bool(filters)
    assert f'<th scope="row">smooth_s</th><td><code>{filters.smooth_s or "none"}</code>' in page


def test_an_existing_page_and_another_table_are_refused(preds, tmp_path):
    """What is there stays, unless --overwrite is given."""
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        write_page(str(preds), str(tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_text() == "mine"
    write_page(str(preds), str(tmp_path / "r.html"), overwrite=True)


def test_a_curve_ends_where_the_person_is_away(tmp_path):
    """Frames 0 to 2 and 4, 5 at 1 a second: two pieces of each curve; a span of six steps, and an offset of 2 s."""
    path = output(
        tmp_path, story("v.mp4", [1, 0.75, 0.25, None, 0, 1], track=4), {"v.mp4": VIDEO | {"time_offset_s": 2.0}}
    )
    (video,), num_videos = timelines(Source(path), NO_FILTERS)
    (lane,) = video.lanes

    assert (num_videos, video.num_people, video.is_mixed) == (1, 1, False)
    assert video.span == (2.0, 1.0, 6)
    assert (lane.person.label, lane.seconds) == ("track 4", 5.0)
    sixth = pytest.approx([0, 1 / 6, 2 / 6, 4 / 6, 5 / 6])
    assert [x for piece in lane.curves["happiness"] for x, _ in piece] == sixth
    assert [[y for _, y in piece] for piece in lane.curves["happiness"]] == [[1, 0.75, 0.25], [0, 1]]
    bars = [(round(6 * bar.left), round(6 * bar.width), bar.emotion) for bar in lane.bars]
    assert bars == [(0, 2, "happiness"), (2, 1, "anger"), (4, 1, "anger"), (5, 1, "happiness")]
    assert [(row.start_s, row.end_s) for row in lane.table] == [(2 + n, 3 + n) for n in (0, 1, 2, 4, 5)]
    assert [row.probabilities[EMOTIONS.index("anger")] for row in lane.table] == [0, 0.25, 0.75, 1, 0]


def test_filters_act_on_curves_and_bars(tmp_path):
    """Smoothed over 3 s, never over an absence; emotions of less than 2 s are joined."""
    path = output(tmp_path, story("v.mp4", [1, 0.75, 0.25, None, 0, 1], track=4), {"v.mp4": VIDEO})
    (smoothed,), _ = timelines(Source(path), Filters(smooth_s=3))
    (joined,), _ = timelines(Source(path), Filters(min_duration_s=2))

    curve = [[y for _, y in piece] for piece in smoothed.lanes[0].curves["happiness"]]
    assert curve == [pytest.approx([0.875, 2 / 3, 0.5]), pytest.approx([0.5, 0.5])]
    bars = [(round(6 * bar.left), round(6 * bar.width), bar.emotion) for bar in joined.lanes[0].bars]
    assert bars == [(0, 3, "happiness"), (4, 2, "anger")]
    assert joined.lanes[0].curves == timelines(Source(path), NO_FILTERS)[0][0].lanes[0].curves


def test_the_people_seen_longest_are_told_apart(tmp_path):
    """Of eight people, of whom the n-th is seen for n seconds, six are drawn, each with their own curve and time."""
    people = [story("v.mp4", [number / 10] * (number + 1), number=number, track=number) for number in range(8)]
    rows = sorted(itertools.chain.from_iterable(people), key=lambda row: (row["frame"], row["face"]))
    path = output(tmp_path, rows, {"v.mp4": VIDEO})
    (video,), _ = timelines(Source(path), NO_FILTERS)

    assert video.num_people == 8
    assert [(lane.person.number, lane.seconds) for lane in video.lanes] == [(n, n + 1.0) for n in range(2, 8)]
    for lane in video.lanes:
        (piece,) = lane.curves["happiness"]
        assert [y for _, y in piece] == [pytest.approx(lane.person.number / 10)] * (lane.person.number + 1)


def test_a_long_video_is_drawn_in_means(tmp_path):
    """An hour at 1 frame a second, an absence of a minute in it: 240 steps of 15 s at most, 24 rows of numbers."""
    values = [None if 1800 <= t < 1860 else 1.0 if t % 2 else 0.5 for t in range(3600)]
    path = output(tmp_path, story("v.mp4", values, track=0), {"v.mp4": VIDEO})
    (video,), _ = timelines(Source(path), NO_FILTERS)
    (lane,) = video.lanes
    before, after = lane.curves["happiness"]

    assert video.span.step_s == pytest.approx(3599 / 239)
    assert video.span.num_steps == 240
    assert len(before) + len(after) < 240
    assert all(0.7 < y < 0.8 for _, y in before[:-1] + after[1:-1])
    assert before[-1][0] * 240 * video.span.step_s < 1800 < 1860 <= after[0][0] * 240 * video.span.step_s
    assert len(lane.table) == 24
    assert [bar.emotion for bar in lane.bars] == ["happiness"] * 2
    assert lane.seconds == 3540


@pytest.mark.thorough
def test_a_page_has_bounds(tmp_path):
    """Of 30 videos with 1,000 rows each, 12 are drawn and 24 listed, and it is said; the page stays small."""
    names = [f"v{number // 1_000:02}.mp4" for number in range(30_000)]
    source = synthetic(tmp_path / "p.parquet", 30_000, names)
    frame = (pl.int_range(30_000) % 1_000).cast(pl.Int64)
    timed = pl.read_parquet(source).with_columns(frame=frame, time_s=frame * 0.3)
    timed.write_parquet(tmp_path / "timed.parquet", compression="uncompressed")
    page = write_page(str(tmp_path / "timed.parquet"), str(tmp_path / "r.html"), images=False).read_text()

    assert re.findall(r"<h3>(v\d+\.mp4)", page) == [f"v{number:02}.mp4" for number in range(12)]
    assert "The first 12 of 30 videos" in page
    assert "Means of steps of 1.25 s" in page
    assert "The 24 of 30 that are seen longest; <code>motivnet summary --by input</code> has all" in page
    assert "a random sample of 5,000 of 30,000 faces" in page
    assert len(page) < 2_000_000


@pytest.mark.thorough
def test_no_emotion_hides_another():
    """On the map, the points of two emotions are drawn in turns."""
    rows = RunRows(embeddings=np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32))
    rows.emotion_ids = np.arange(3000) % 2
    drawn = map_of(rows, ("neutral", "happiness"))
    order = [name for name, points in drawn.layers for _ in points]

    assert sorted(order) == ["happiness"] * 1500 + ["neutral"] * 1500
    for name in ("neutral", "happiness"):
        places = [place for place, each in enumerate(order) if each == name]
        assert 1400 < np.mean(places) < 1600
    assert {group.emotion: group.num_faces for group in drawn.groups} == {"neutral": 1500, "happiness": 1500}


def test_times_and_shares_in_words():
    """A part of a second is not rounded away in short videos, nor a share to none or all."""
    assert [clock(0.5, 60), clock(60, 60), clock(64.6, 200), clock(3725, 4000)] == ["0.5 s", "60 s", "1:05", "1:02:05"]
    assert [whole_percent(share) for share in (0, 0.001, 0.336, 0.999, 1)] == ["0 %", "<1 %", "34 %", ">99 %", "100 %"]


def test_classes_of_ones_own_look_different():
    """Thirty classes: known emotions have their own colours, and no two classes look the same."""
    names = ["anger", *(f"class {number}" for number in range(29))]
    looks = looks_of(names)

    assert list(looks) == names
    assert len(set(looks.values())) == 30
    assert looks["anger"] == looks_of(EMOTIONS)["anger"]


READS_MISSING_LISTS = int(pa.__version__.partition(".")[0]) >= 26


def with_holes(folder):
    """Thirty rows, of which the first ten have no emotion, no confidence and no embedding."""
    source = synthetic(folder / "p.parquet", 30)
    is_first = pl.int_range(30) < 10
    rows = pl.read_parquet(source).with_columns(
        pl.when(~is_first).then(pl.col("emotion")),
        pl.when(~is_first).then(pl.col("confidence")).otherwise(float("nan")),
        pl.when(~is_first).then(pl.col("embedding")),
    )
    rows.write_parquet(folder / "holes.parquet")
    return str(folder / "holes.parquet")


@pytest.mark.skipif(READS_MISSING_LISTS, reason="this pyarrow reads them")
def test_what_pyarrow_does_not_read_is_said(tmp_path):
    """Older versions do not read a row without an embedding."""
    with pytest.raises(ConfigError, match=r"cannot read '.*holes.parquet': .*without an embedding, pyarrow 26 does"):
        write_page(with_holes(tmp_path), str(tmp_path / "r.html"))


@pytest.mark.thorough
@pytest.mark.skipif(not READS_MISSING_LISTS, reason="pyarrow 26 reads them, this one does not")
def test_what_is_not_known_is_left_out(tmp_path):
    """No emotion, no confidence and no embedding: such rows are in no gallery and no dot, and nothing breaks."""
    page = write_page(with_holes(tmp_path), str(tmp_path / "r.html")).read_text()

    assert "20 of 30 faces" in page
    assert "000005.jpg" not in page
    assert 'id="inputs"' not in page


def with_picture(folder):
    """The output of a run over one photograph, which is not where it was."""
    box = face_photo(folder / "now" / "a.png", size=(200, 200), faces=((100, 100, 120),))[0]
    about = {"size_bytes": (folder / "now" / "a.png").stat().st_size, "width": 200, "height": 200}
    row = face("a.png", emotion="fear", box=box, size=(200, 200))
    settings = {"inputs.paths": [str(folder / "gone")], "video.of a later version": 1}
    return output(folder, [row], {"a.png": about}, settings=settings)


def test_pictures_that_have_moved(tmp_path):
    """They are missed once, in words, and found below --images-from; in the table of people, too."""
    (tmp_path / "now").mkdir()
    path = with_picture(tmp_path)
    page = write_page(str(path), str(tmp_path / "r.html")).read_text()
    found = write_page(str(path), str(tmp_path / "s.html"), images_from=str(tmp_path / "now")).read_text()

    assert page.count("1 not where the run read it. If they lie in another folder now, give it with --images-from") == 1
    assert "image/jpeg" not in page
    assert '<span class="none">' not in page  # a gallery without any picture is a list of names
    assert "cannot be used" not in found
    assert found.count("data:image/jpeg") == 3  # of the row of people, the most and the least confident face


def test_pictures_in_archives(tmp_path):
    """Faces are cut out of the archive that the run read; where it has gone, out of what was unpacked from it."""
    box = face_photo(tmp_path / "a.png", size=(200, 200), faces=((100, 100, 120),))[0]
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "in/a.png")
    about = {"width": 200, "height": 200, "archive": "z.zip"}
    inputs = {"z.zip/in/a.png": about, "z.zip": {"kind": "archive", "width": None, "height": None}}
    row = face("z.zip/in/a.png", emotion="fear", box=box, size=(200, 200))
    path = output(tmp_path, [row], inputs, settings={"inputs.paths": [str(tmp_path)]})

    def page(**options):
        return write_page(str(path), str(tmp_path / "r.html"), overwrite=True, **options).read_text()

    assert page().count("data:image/jpeg") == 3
    (tmp_path / "z.zip").unlink()
    assert "cannot be used: 1 in an archive" in page()
    (tmp_path / "now" / "in").mkdir(parents=True)
    shutil.move(tmp_path / "a.png", tmp_path / "now" / "in" / "a.png")
    assert page(images_from=str(tmp_path / "now")).count("data:image/jpeg") == 3


def test_a_video_of_which_the_rate_is_not_known(tmp_path):
    """One frame of every 30: its face counts, without seconds, and there is no total of seconds that is 0."""
    rows = [seen(f"{name}.mp4", 4.0, 0.25, frame=30) for name in "ab"]
    inputs = {"a.mp4": VIDEO, "b.mp4": VIDEO}
    path = output(tmp_path, rows, inputs, video={"fps": None, "every": 30}, tracks=False)
    page = write_page(str(path), str(tmp_path / "r.html")).read_text()

    assert page.count('<p class="much">1 face</p>') == 2
    assert "2 with faces in a single frame, of which the rate is not known" in page
    assert "All videos" not in page
    assert "Emotions in videos" not in page


@pytest.mark.parametrize("known", ["size", "nothing"])
def test_another_file_of_the_name_is_not_shown(known, tmp_path):
    """Of another size, or, where that is not known, a picture of other dimensions: left out and said."""
    (tmp_path / "now").mkdir()
    path = with_picture(tmp_path)
    if known == "nothing":
        path.with_suffix(".inputs.parquet").unlink()
    face_photo(tmp_path / "now" / "a.png", size=(300, 200), faces=((100, 100, 120),))
    page = write_page(str(path), str(tmp_path / "r.html"), images_from=str(tmp_path / "now")).read_text()

    assert "image/jpeg" not in page
    assert "cannot be used: 1 changed since the run." in page


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_a_browser_finds_nothing_wrong(page_file):
    """Chromium, light and dark: no console message, one request, every image drawn, no sideways scrolling."""
    playwright = pytest.importorskip("playwright.sync_api")
    messages, requests = [], []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 900, "height": 800}, color_scheme=scheme)
            page.on("console", lambda message: messages.append(message.text))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(page_file.as_uri())
            page.hover(".stills span:nth-child(3)")
            assert page.locator(".stills").first.locator("span:nth-child(3) img").is_visible()
            assert not page.locator(".stills").first.locator("span:nth-child(2) img").is_visible()
            drawn = page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            for width in (360, 800, 1400, 1920):
                page.set_viewport_size({"width": width, "height": 800})
                cards = page.evaluate(
                    "[...document.querySelectorAll('.statuses li')].map(c => c.getBoundingClientRect().top)"
                )
                assert len(cards) == 4
                assert len(set(cards)) == 1
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert drawn
            assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        browser.close()

    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()] * 2
