"""The page about a run: true counts, the same for few rows and many, and nothing that leaves it."""

from __future__ import annotations

import json
import re
import shutil
from io import BytesIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.tables import METADATA_KEY
from motivnet_cli.records import EMOTIONS
from motivnet_cli.report import figures
from motivnet_cli.report.predictions import write_page
from tests.pictures import SAMPLE_DATA, face_photo
from tests.test_export_tables import synthetic


@pytest.fixture(scope="module")
def preds(tmp_path_factory):
    """The sample pictures and clip, and a file that is none."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(SAMPLE_DATA, folder / "in", ignore=shutil.ignore_patterns("grace*", "interview*"))
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


def test_the_page_says_what_is_in_the_tables(preds, tmp_path):
    """Counts, the failure by name and reason, a timeline, faces as thumbnails; names stay text."""
    page = write_page(str(preds), str(tmp_path / "r.html")).read_text()

    assert "8 faces (8 detected) in 4 inputs" in page
    assert "&lt;b&gt;bad.jpg" in page
    assert "<b>bad" not in page
    assert "not_an_image" in page
    assert "<h3>face.mp4</h3>" in page
    assert page.count("data:image/jpeg") == 4 + 6 + 6
    assert "no local picture" not in page
    assert page.count('aria-label="Frame at') == 4
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)


def test_without_images(preds, tmp_path):
    """--no-images leaves every picture out; the faces of the galleries are named."""
    page = write_page(str(preds), str(tmp_path / "r.html"), images=False).read_text()

    assert "image/jpeg" not in page
    assert '<span class="file">group.jpg</span>' in page


@pytest.mark.thorough
def test_many_rows_are_sampled_and_it_is_said(tmp_path):
    """Of 20,000 faces the map shows 5,000, and says so; without pictures on this disk the gallery says that."""
    source = synthetic(tmp_path / "p.parquet", 20_000)
    page = write_page(str(source), str(tmp_path / "r.html")).read_text()

    assert "20,000 faces" in page
    assert "a random sample of 5,000 of 20,000 faces" in page
    assert "no local picture" in page


def test_an_existing_page_and_another_table_are_refused(preds, tmp_path):
    """What is there stays, unless --overwrite is given."""
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        write_page(str(preds), str(tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_text() == "mine"
    write_page(str(preds), str(tmp_path / "r.html"), overwrite=True)


@pytest.mark.thorough
def test_every_video_has_its_timeline(tmp_path):
    """Of 14 videos with 20,000 rows each, 12 are drawn and it is said; the page stays small."""
    source = synthetic(tmp_path / "p.parquet", 280_000, [f"v{number // 20_000:02}.mp4" for number in range(280_000)])
    rows = pl.read_parquet(source).with_columns(time_s=(pl.int_range(280_000) % 20_000) / 10.0)
    rows.write_parquet(tmp_path / "timed.parquet")
    page = write_page(str(tmp_path / "timed.parquet"), str(tmp_path / "r.html"), images=False).read_text()

    assert re.findall(r"<h3>(v\d+\.mp4)", page) == [f"v{number:02}.mp4" for number in range(12)]
    assert "The first 12 of 14 videos" in page
    assert "in steps of 8.37 s" in page
    assert len(page) < 5_000_000


@pytest.mark.thorough
def test_no_emotion_hides_another():
    """Where two emotions alternate in a timeline, each has half of the ink; on the map, neither lies on top."""
    bars = {0: [(float(step), 1.0, step % 2) for step in range(240)]}
    drawn = figures.timeline(bars, ("neutral", "happiness")).png
    points = np.random.default_rng(0).uniform(0, 0.05, (3000, 2))
    points[:2] = (0, 1), (1, 0)
    mapped = figures.scatter(points, np.arange(3000) % 2, ("neutral", "happiness")).png

    for png in (drawn, mapped):
        pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)
        blue, orange = ((pixels[..., channel] - pixels[..., 2 - channel] > 60).sum() for channel in (2, 0))
        assert 0.6 < blue / orange < 1.6


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


@pytest.mark.thorough
def test_pictures_are_found_from_several_given_paths(tmp_path):
    """A folder and a file were given by names relative to another folder: their faces are shown all the same."""
    (tmp_path / "a").mkdir()
    for name in ("a/one.png", "two.png"):
        face_photo(tmp_path / name, size=(200, 200), faces=((100, 100, 120),))
    source = synthetic(tmp_path / "p.parquet", 4, ["a/one.png", "two.png", "a/../../two.png", "s3://b/two.png"])
    record = {"classes": list(EMOTIONS), "settings": {"inputs.paths": [str(tmp_path / "a"), str(tmp_path / "two.png")]}}
    table = pq.read_table(source)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(record).encode()}), source)
    page = write_page(str(source), str(tmp_path / "r.html")).read_text()

    assert page.count("data:image/jpeg") == 4
    assert page.count("no local picture") == 4


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_finds_nothing_wrong(preds, tmp_path, scheme):
    """Chromium: no console message, no request but the page, every image drawn, no sideways scrolling."""
    playwright = pytest.importorskip("playwright.sync_api")
    page_file = write_page(str(preds), str(tmp_path / "r.html"))
    messages, requests = [], []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 800}, color_scheme=scheme)
        page.on("console", lambda message: messages.append(message.text))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri())
        page.hover(".stills span:nth-child(3)")
        assert page.is_visible(".stills span:nth-child(3) img")
        assert not page.is_visible(".stills span:nth-child(2) img")
        drawn = page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        is_narrow = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        browser.close()

    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert drawn
    assert is_narrow
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
