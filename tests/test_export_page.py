"""The page about a run: true counts, the same for few rows and many, and nothing that leaves it."""

from __future__ import annotations

import re
import shutil

import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.page import write_page
from tests.pictures import SAMPLE_DATA
from tests.test_export_tables import synthetic


@pytest.fixture(scope="module")
def preds(tmp_path_factory):
    """The sample pictures and clip, and a file that is none."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(SAMPLE_DATA, folder / "in")
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

    assert "8 faces in 4 inputs" in page
    assert "&lt;b&gt;bad.jpg" in page
    assert "<b>bad" not in page
    assert "not_an_image" in page
    assert "<h3>face.mp4</h3>" in page
    assert page.count("data:image/jpeg") >= 8
    assert page.count('aria-label="Frame at') == 4
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)


def test_without_images(preds, tmp_path):
    """--no-images leaves every face out."""
    assert "image/jpeg" not in write_page(str(preds), str(tmp_path / "r.html"), images=False).read_text()


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
