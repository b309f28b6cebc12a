"""The documentation site: built without a warning, it opens, is searched, and asks no other host for anything."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.thorough


def _build(source: Path, site: Path) -> subprocess.CompletedProcess:
    """Run what `make docs` runs. With `--quiet` it would count no warnings."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    run = _build(ROOT, folder)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_make_docs_is_what_is_tested():
    assert "NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict\n" in (ROOT / "Makefile").read_text()


def test_a_dead_anchor_and_a_page_without_a_place_are_errors(tmp_path):
    """The build fails, and names both."""
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "index.md").open("a") as page:
        page.write("\n[nowhere](summary.md#not-there)\n")
    (tmp_path / "docs" / "stray.md").write_text("# Stray\n")
    run = _build(tmp_path, tmp_path / "site")

    assert run.returncode != 0
    assert "summary.md#not-there" in run.stderr
    assert "stray.md" in run.stderr


def test_the_site_in_chromium(address, browser):
    """Its first page, a search and a tutorial: no complaint on the console, and no request beyond this machine."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))

    page.goto(address)
    assert page.locator("h1").inner_text().startswith("motivnet")
    page.locator("input.md-search__input").click()
    page.get_by_text("Type to start searching").wait_for()  # its index is there
    page.locator("input.md-search__input").press_sequentially("debounces")
    page.locator(".md-search-result__link[href*=summary]").first.wait_for()
    page.locator("input.md-search__input").press("Escape")
    page.locator("article").get_by_role("link", name="I have interviews").click()
    page.wait_for_url("**/tutorials/interviews/")
    assert "Sum up each person" in page.locator("article").inner_text()
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")

    assert complaints == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    page.close()
