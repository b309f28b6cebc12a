"""The report: every number and name arrives, nothing that a name holds becomes markup, and a page fetches nothing."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from motivnet_cli.evaluation.datasets.published import Anchor, LeftOut
from motivnet_cli.evaluation.groups import by_group
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.evaluation.results import (
    AcrossSets,
    DatasetSummary,
    Evaluation,
    Interval,
    Matching,
    Missed,
    Mistake,
    Names,
    Run,
    SetsPair,
    SoftScores,
    TemperatureScaling,
    to_json,
)
from motivnet_cli.evaluation.significance import between_runs
from motivnet_cli.records import EMOTIONS
from motivnet_cli.report import figures as drawings
from motivnet_cli.report.evaluation import write_report, write_suite
from motivnet_cli.report.figures import accuracy_by_set
from motivnet_cli.report.matching import matching_in_words, unfit
from tests.pictures import cut_short, face_photo, quadrants

pytestmark = pytest.mark.thorough  # matplotlib draws every page's figures

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert(1)</script> | \"x\" & 'y' `z` {{ 7 * 7 }} \\ $5 _a_ #b\nline \x1b\u202e\udcff"
"""What a file may be called: markup of every format written here, a line break, a command to a terminal, a mark that
turns the direction of writing, and a byte that is not UTF-8."""


@pytest.fixture(scope="module")
def scores():
    """70 images of all classes, 5 of them missed, with probabilities."""
    return _scores(with_probabilities=True)


@pytest.fixture(scope="module")
def evaluation(scores):
    return evaluation_of(run_of(scores))


@pytest.fixture(scope="module")
def written(tmp_path_factory, evaluation):
    """The files of one report without images."""
    return write_report(evaluation, tmp_path_factory.mktemp("plain"), images=False)


@pytest.fixture(scope="module")
def folder(written):
    return written[0].parent


@pytest.fixture(scope="module")
def suite(tmp_path_factory, scores):
    """The pages of a suite: two runs with long names, a thumbnail, and a mistake with a hostile name."""
    folder = tmp_path_factory.mktemp("suite")
    face_photo(folder / "a.png", size=(100, 100), faces=((50, 50, 80),))
    mistakes = [mistake(path=str(folder / "a.png")), mistake(HOSTILE + "x" * 200)]
    runs = [run_of(scores, mistakes=mistakes), run_of(scores, name="recipe pad " + "y" * 200)]
    written = write_suite([evaluation_of(*runs)], folder / "report", images=True)
    return [path for path in written if path.suffix == ".html"]


def _scores(*, with_probabilities: bool):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), 10)
    logits = rng.normal(size=(70, 7))
    logits[np.arange(70), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    predicted[::15] = -1
    return score(labels, predicted, probabilities if with_probabilities else None, resamples=20)


def run_of(scores, *, name="recipe stretch", mistakes=(), **fields):
    origin = {"tool": "motivnet 0", "model": "tiny", "weights_sha256": "ab" * 32, "recipe": "stretch"}
    origin |= {"faces": "whole", "terms": None, "settings": {"model": {"batch_size": 8}}}
    none = Names(0, ())
    run = Run(
        name=name,
        predictions=origin,
        scores=scores,
        missed=tuple(Missed(f"missed/{number}.png", "no_face") for number in range(scores.n_missed)),
        missed_by_reason={"no_face": scores.n_missed},
        matching=Matching(
            how={"file name": 70}, unmatched=none, ambiguous=none, contradicted=none, unused=none, remarks=()
        ),
        mistakes=tuple(mistakes),
    )
    return replace(run, **fields)


def mistake(image="a.png", path="/nowhere/a.png", box=None):
    return Mistake(image=image, path=path, box=box, label="fear", predicted="surprise", confidence=0.9876)


def anchor(value, what, kind, **fields):
    known = {"dataset": "rafdb", "split": "test", "n": 70, "confirmed": "fits", "address": "https://example.org/paper"}
    return Anchor(value=value, what=what, kind=kind, **{"source": "ECCV 2024", **known, **fields})


def grouping(column, name):
    """The images by a column, of two groups."""
    labels, names = np.arange(70) % 7, [name, "other group"] * 35
    return by_group(column, names, labels, labels, classes=EMOTIONS, subjects=None, resamples=9, seed=0)


def pairs(*names):
    """The tests between runs, of which each is right of ten images fewer than the one before."""
    labels = np.arange(70) % 7
    runs = {name: np.where(np.arange(70) < 10 * place, -1, labels) for place, name in enumerate(names)}
    return between_runs(labels, runs, num_classes=7, resamples=9, seed=0)


def over_sets(*names):
    """The tests over six sets, in which the first run is better by 0.1 each time."""
    return AcrossSets(
        figure="accuracy",
        sets=tuple("abcdef"),
        runs=names,
        friedman=None,
        pairs=(
            SetsPair(
                a=names[0], b=names[1], mean_difference=0.1, a_better=6, b_better=0, wilcoxon_p=1 / 32, p_holm=1 / 32
            ),
        ),
        remarks=(),
    )


def evaluation_of(*runs, **dataset):
    summary = DatasetSummary(
        name="rafdb",
        title="RAF-DB basic",
        layout="EmoLabel and Image/aligned",
        split="test",
        protocol=None,
        label_map={},
        terms="research only",
        where="https://example.org/ask",
        n=70,
        counts=dict.fromkeys(EMOTIONS, 10),
        dropped={"contempt": 18},
        remarks=("70 images where 3,068 are published",),
        images_sha256="cd" * 32,
    )
    return Evaluation(
        schema_version=2,
        tool="motivnet 0",
        command="motivnet evaluate --dataset rafdb --root /data",
        remarks=("only 70 of 90 labelled images are found",),
        dataset=replace(summary, **dataset),
        runs=runs,
        anchors=(
            anchor(72.69, "CAFE", "cross_set"),
            anchor(66.10, "EAC", "cross_set", note="not confirmed: the crops"),
            anchor(92.21, "POSTER++", "in_set"),
        ),
        anchors_left_out=(LeftOut(anchor(61.5, "AGRA", "adapted", n=213), "it was measured on 213 images"),),
    )


class Page(HTMLParser):
    """What a browser would make of a page: elements with attributes, and the text."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def every(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def thumbnails(path: Path) -> list[Image.Image]:
    sources = [image["src"] for image in Page(path).every("img")]
    start = "data:image/jpeg;base64,"
    return [Image.open(BytesIO(base64.b64decode(each[len(start) :]))) for each in sources if each.startswith(start)]


def test_files_are_those_returned(written, folder, evaluation):
    """The files named in the answer are what the folder holds, and metrics.json is the evaluation."""
    kinds = ("confusion", "per_class", "reliability")
    figures = {f"figures/{kind}-recipe-stretch.{ending}" for kind in kinds for ending in ("png", "svg")}
    names = {path.relative_to(folder).as_posix() for path in written}

    assert names == {"metrics.json", "report.md", "report.html"} | figures
    assert {path for path in folder.rglob("*") if path.is_file()} == set(written)
    assert json.loads((folder / "metrics.json").read_text()) == to_json(evaluation)


def test_headlines_of_both_denominators(folder, scores):
    """Page and Markdown show each headline with its interval, over all images and over those scored."""
    page, markdown = Page(folder / "report.html").text, (folder / "report.md").read_text()

    for figures in (scores.all, scores.scored):
        for name in ("accuracy", "uar", "macro_f1", "weighted_f1", "top2_accuracy"):
            value, low, high = (f"{100 * getattr(figures[name], key):.2f}" for key in ("value", "low", "high"))
            assert f"{value}{low}\N{EN DASH}{high}" in page
            assert f"{value} ({low}\N{EN DASH}{high})" in markdown
        assert f"{figures['kappa'].value:.3f}" in page
    for name in ("auroc_macro", "brier"):
        assert f"{scores.scored[name].value:.3f}" in page
        assert f"| {scores.scored[name].value:.3f} (" in markdown
    assert "all 70" in page
    assert f"scored {scores.n_scored}" in page


@pytest.mark.usefixtures("plain_figures")
def test_an_interval_below_zero_is_no_row_of_dashes(tmp_path, scores):
    """A dash between two negative numbers would be taken for their sign."""
    below = replace(scores, all={**scores.all, "kappa": replace(scores.all["kappa"], low=-0.125, high=-0.0229)})
    write_report(evaluation_of(run_of(below)), tmp_path, images=False)

    assert "-0.125 to -0.023" in Page(tmp_path / "report.html").text
    assert "(-0.125 to -0.023)" in (tmp_path / "report.md").read_text()


def test_every_choice_is_shown(folder, evaluation):
    """Page and Markdown hold remarks, drops, misses, matching, settings, hashes, anchors, terms and the command."""
    said = ("70 images where 3,068 are published", "contempt", "no_face", "file name", "settings.model.batch_size")
    said += ("ab" * 32, "cd" * 32, "72.69", "92.21", "ECCV 2024", "research only", evaluation.command)
    said += ("inferred from the decimals", "not confirmed: the crops", "61.50 %", "it was measured on 213 images")
    page = Page(folder / "report.html").text
    markdown = (folder / "report.md").read_text().replace("\\", "")

    for words in said:
        assert words in page
        assert words in markdown


def test_matching_is_said_in_words(folder):
    """One way is one sentence, several are counted, and what did not fit is a sentence of each kind with its names."""
    by_path = Matching(
        how={"relative path": 3_000, "file name": 61},
        unmatched=Names.of([f"test/{number}.jpg" for number in range(7)]),
        ambiguous=Names(0, ()),
        contradicted=Names(1, ("x.jpg",)),
        unused=Names(200, ("y.jpg",)),
        remarks=(),
    )

    assert matching_in_words(by_path, 3_069, "image") == (
        "3,061 of 3,069 images were found: 3,000 by the path below the set's folder, 61 by file name."
    )
    assert matching_in_words(replace(by_path, how={"file name": 3_068}), 3_068, "image") == (
        "3,068 of 3,068 images were found by file name."
    )
    assert matching_in_words(replace(by_path, how={}), 5, "image") == "0 of 5 images were found."
    assert [each.sentence for each in unfit(by_path, "image")] == [
        "7 labelled images are not in the predictions",
        "1 labelled image has its name only in the folder of another split or class",
        "200 images of the predictions are not labelled",
    ]
    for page in (Page(folder / "report.html").text, (folder / "report.md").read_text()):
        assert "70 of 70 images were found by file name." in page
        assert "unmatched" not in page


@pytest.mark.usefixtures("plain_figures")
def test_a_report_on_clips_speaks_of_clips(tmp_path, scores):
    """No figure of clips is said to be of images, on the page and in Markdown."""
    dataset = {"unit": "clip", "remarks": (), "layout": "clips in folders"}
    labels, some = np.arange(40) % 7, ["speech", None] * 20
    few = by_group("channel", some, labels, labels, classes=EMOTIONS, subjects=None, resamples=9, seed=0)
    run = run_of(scores, mistakes=[mistake()], by=(grouping("gender", "female"), few))
    evaluation = evaluation_of(run, **dataset)
    write_report(replace(evaluation, remarks=(), anchors=(), anchors_left_out=()), tmp_path, images=False)

    for text in (Page(tmp_path / "report.html").text, (tmp_path / "report.md").read_text()):
        assert "70 of 70 clips were found by file name." in text
        assert "over all 70 labelled clips" in text or "70 labelled clips, split" in text
        assert "9,999 permutations of clips" in text
        assert not re.findall(r".*\bimages?\b.*", re.sub(r"--no-images", "", text), re.IGNORECASE)


@pytest.mark.usefixtures("plain_figures")
def test_a_sentence_keeps_its_capitals(tmp_path, scores):
    """A remark that starts a sentence gets one capital and loses none; an entropy that is not there has no dash."""
    remark, said = "by NLL alone, FERPlus says little", "By NLL alone, FERPlus says little."
    scaling = TemperatureScaling(split="val", n=9, n_missed=0, temperature=2.0, before={}, after={}, remarks=(remark,))
    votes = SoftScores(
        all={"voter_agreement": None}, scored={}, label_agreement=0.9, entropy=None, reliability=(), remarks=(remark,)
    )
    write_report(evaluation_of(run_of(scores, temperature_scaling=scaling, soft=votes)), tmp_path, images=False)

    for text in (Page(tmp_path / "report.html").text, (tmp_path / "report.md").read_text()):
        assert text.count(said) == 2
        assert "have an agreement of 90.00 %." in text


def test_published_numbers_keep_apart(folder):
    """Numbers of networks trained elsewhere stand under their own heading, the highest first."""
    page = Page(folder / "report.html").text

    order = ("Trained on other sets", "CAFE", "EAC", "Trained on this set", "POSTER++")
    assert sorted(order, key=page.index) == list(order)


@pytest.mark.usefixtures("plain_figures")
def test_hostile_names_stay_text(tmp_path, scores):
    """Whatever a name, reason, setting or remark holds is shown, and becomes no element, link, cell or command."""
    run = run_of(
        scores,
        name=HOSTILE,
        mistakes=[mistake(HOSTILE)],
        missed=(Missed(HOSTILE, HOSTILE),),
        missed_by_reason={HOSTILE: 5},
        predictions={"settings": {HOSTILE: HOSTILE}},
        by=(grouping(HOSTILE, HOSTILE),),
    )
    where = "javascript:alert(1)"
    evaluation = evaluation_of(run, title=HOSTILE, remarks=(HOSTILE,), dropped={HOSTILE: 1}, where=where)
    evaluation = replace(evaluation, between=pairs(HOSTILE, "other"))
    write_suite([evaluation], tmp_path, images=True, across=over_sets(HOSTILE, "other"))
    pages = [Page(tmp_path / name) for name in ("rafdb/report.html", "index.html", "suite.html")]

    for page in pages:
        assert not page.every("script")
        assert (
            "<script>alert(1)</script> | \"x\" & 'y' `z` {{ 7 * 7 }} \\ $5 _a_ #b\nline \\x1b\\u202e\\udcff"
            in page.text
        )
        assert all(not link["href"].startswith("javascript") for link in page.every("a"))
    assert where in pages[0].text
    for markdown in (tmp_path / "rafdb" / "report.md", tmp_path / "suite.md"):
        text = markdown.read_text(encoding="utf-8")
        assert not re.search(r"(?<!\\)<script", text)
        for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
            assert set(table.splitlines()[1]) <= set("|:-"), "a table has its line below the names"
    latex = (tmp_path / "suite.tex").read_text(encoding="utf-8")
    assert r"{\scriptsize" in latex
    assert r"\{\{ 7 * 7 \}\} \textbackslash{} \$5 \_a\_ \#b line" in latex
    assert json.loads((tmp_path / "rafdb" / "metrics.json").read_text()) == to_json(evaluation)


def test_tests_between_runs_groups_and_sets_are_shown(tmp_path, scores):
    """Both pages have a row for each pair and group with p and intervals; the suite's have the tests over sets."""
    evaluation = evaluation_of(*(run_of(scores, name=name, by=(grouping("gender", "female"),)) for name in "abc"))
    evaluation = replace(evaluation, between=pairs("a", "b", "c"))
    write_suite([evaluation], tmp_path, images=False, across=over_sets("a", "b"))
    page, markdown = Page(tmp_path / "rafdb" / "report.html").text, (tmp_path / "rafdb" / "report.md").read_text()
    (first, *_), accuracy = evaluation.between, grouping("gender", "female").groups[0].accuracy

    assert "Holm's correction is for 3 pairs" in page
    assert f"100.0085.7114.29{100 * first.scores.all.difference.low:.2f} to " in re.sub(r"\s*\n\s*", "", page)
    assert f"| 10 | 0 | {first.scores.all.p:.2g} | {first.p_holm:.2g} |" in markdown
    assert page.count("Bygender") + page.count("By gender") == markdown.count("### By gender") == 3
    assert f"| female | 35 | 0 | 100.00 ({100 * accuracy.low:.2f}\N{EN DASH}100.00) |" in markdown
    for name in ("index.html", "suite.md"):
        assert "Wilcoxon's signed-rank test: p = 0.031" in (tmp_path / name).read_text().replace("&#39;", "'")
    assert json.loads((tmp_path / "suite.json").read_text())["pairs"][0]["a_better"] == 6


def test_pages_hold_all_that_they_show(suite):
    """Images are inside the page and described in words; links lead into the page, the folder, or to a web address."""
    for path in suite:
        page = Page(path)
        assert not page.every("script")
        assert not page.every("caption")  # it is as wide as its table, of which a phone shows a part
        assert all(link["rel"] == "icon" and link["href"] == "data:," for link in page.every("link"))
        assert all(image["src"].startswith("data:") and len(image["alt"]) > 20 for image in page.every("img"))
        identifiers = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
        for link in page.every("a"):
            address = urlsplit(link["href"])
            if address.scheme != "https":
                assert (path.parent / unquote(address.path)).exists()
                assert not address.fragment or address.fragment in identifiers


def test_a_set_without_an_interval_keeps_its_point():
    """One subject in all: the figure over the sets shows its accuracy, without a bar."""
    with_point, without = (
        accuracy_by_set(["a", "b"], [[Interval(0.5, 0.4, 0.6), each]]) for each in (Interval(0.7, None, None), None)
    )
    assert with_point.svg != without.svg


def test_figures_open(written):
    """PNGs are pictures and SVGs well-formed XML."""
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.format == "PNG"
                assert min(picture.size) > 500
        elif path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_legends_lie_beside_the_axes(scores, monkeypatch):
    """No corner of the axes is free of bars for every run, so no legend stands within them. Axes name no unit: it may
    be images or clips."""
    drawn = []

    def remembered(**settings):
        drawn.append(Figure(**settings))
        return drawn[-1]

    monkeypatch.setattr(drawings, "Figure", remembered)
    drawings.per_class(scores)
    drawings.reliability(scores)
    assert [len(figure.legends) for figure in drawn] == [1, 1]

    accuracy_by_set(["a"], [[Interval(0.5, 0.4, 0.6)]])
    axes = [axes for figure in drawn for axes in figure.axes]
    assert not [each for each in axes if "image" in each.get_xlabel() + each.get_ylabel()]
    assert not [axes for figure in drawn for axes in figure.axes if axes.get_legend()]


def test_same_evaluation_same_bytes(tmp_path, evaluation, written):
    """A report made again, over another one and in another folder, does not differ by a byte."""
    write_report(evaluation_of(*evaluation.runs, title="Another"), tmp_path, images=False)
    again = write_report(evaluation, tmp_path, images=False)

    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]


@pytest.mark.usefixtures("plain_figures")
def test_thumbnails_are_of_local_files_that_can_be_read(tmp_path, scores):
    """A mistake is shown where its file can be read; a missing or damaged one is only named."""
    face_photo(tmp_path / "a.png", size=(500, 400))
    cut_short(tmp_path / "a.png", tmp_path / "cut.png")
    mistakes = [mistake(name, str(tmp_path / name)) for name in ("a.png", "cut.png", "gone.png")]
    write_report(evaluation_of(run_of(scores, mistakes=mistakes)), tmp_path, images=True)

    (shown,) = thumbnails(tmp_path / "report.html")
    assert max(shown.size) == 224
    text = Page(tmp_path / "report.html").text
    assert text.count("no local picture") == 2
    assert all(each.image in text for each in mistakes)


@pytest.mark.usefixtures("plain_figures")
def test_thumbnail_of_a_given_box(tmp_path, scores):
    """Where the face has a box, the box is shown and not the picture; a box outside the picture shows all of it."""
    quadrants(640, 480).save(tmp_path / "a.png")
    boxes = [(320, 240, 420, 440), (-10, -10, 90, 40), (9000, 0, 9100, 50)]
    mistakes = [mistake(path=str(tmp_path / "a.png"), box=box) for box in boxes]
    write_report(evaluation_of(run_of(scores, mistakes=mistakes)), tmp_path, images=True)

    yellow, red, whole = thumbnails(tmp_path / "report.html")
    assert yellow.size == (100, 200)
    assert red.size == (90, 40)
    assert whole.size == (224, 168)
    assert np.asarray(yellow.convert("RGB")).mean(axis=(0, 1))[1] > 120 > np.asarray(red.convert("RGB"))[..., 1].max()


@pytest.mark.usefixtures("plain_figures")
def test_no_images(tmp_path, scores):
    """Without images the mistakes are named in a table and no picture of the user's is in the page."""
    face_photo(tmp_path / "a.png", size=(100, 100))
    run = run_of(scores, mistakes=[mistake(path=str(tmp_path / "a.png"))])
    write_report(evaluation_of(run), tmp_path, images=False)

    assert thumbnails(tmp_path / "report.html") == []
    assert "a.pngfearsurprise98.76" in re.sub(r"\s", "", Page(tmp_path / "report.html").text)


def test_labels_only(tmp_path):
    """Predictions without probabilities have dashes for some figures, no reliability diagram, and a word why."""
    written = write_report(evaluation_of(run_of(_scores(with_probabilities=False))), tmp_path, images=True)

    assert not [path for path in written if "reliability" in path.name]
    assert "these predictions hold no probabilities" in Page(tmp_path / "report.html").text
    assert "| Top-2 accuracy | \N{EN DASH} | \N{EN DASH} |" in (tmp_path / "report.md").read_text()


def test_nothing_scored_and_classes_without_images(tmp_path):
    """A set of one class, all of it missed, still has its report."""
    scores = score([3, 3, 3], [-1, -1, -1], np.full((3, 7), np.nan), resamples=5)
    write_report(evaluation_of(run_of(scores), n=3), tmp_path, images=True)

    assert "0.00" in Page(tmp_path / "report.html").text
    assert "surprise missed (100.00 %, 3)" in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("plain_figures")
def test_run_names_that_read_alike(tmp_path, scores):
    """Two runs whose names differ only in signs have figures of their own."""
    runs = [run_of(scores, name=name) for name in ("A b", "a-b", "\N{GRINNING FACE}")]
    written = write_report(evaluation_of(*runs), tmp_path, images=False)

    assert len({path.name for path in written}) == len(written)
    assert {"confusion-a-b.png", "confusion-a-b-2.png", "confusion-run.png"} <= {path.name for path in written}


@pytest.mark.usefixtures("plain_figures")
def test_suite_mean_counts_each_set_once(tmp_path):
    """The foot of the table is the mean over the sets that a run has, in Markdown, HTML and LaTeX."""
    half, full = (
        score([0] * size, [0] * right + [1] * (size - right), None, resamples=5) for size, right in ((40, 20), (10, 10))
    )
    sets = [
        evaluation_of(run_of(half), name="one", title="One"),
        evaluation_of(run_of(full), run_of(full, name="other"), name="two", title="Two", protocol="last frame"),
    ]
    written = write_suite(sets, tmp_path, images=False)

    markdown, latex = ((tmp_path / name).read_text() for name in ("suite.md", "suite.tex"))
    assert "| **Mean over 2 sets** | | | recipe stretch | | 75.00 | 75.00 |" in markdown
    assert "| **Mean over 1 set** | | | other | | 100.00 |" in markdown
    assert "Mean over 2 sets & & & recipe stretch & & 75.00 & 75.00 &" in latex
    for name in ("suite.html", "index.html"):
        assert "Mean over 2 setsrecipe stretch75.0075.00" in re.sub(r"\n", "", Page(tmp_path / name).text)
    assert "| Two | test, last frame | 10 | other | 0 |" in markdown
    assert "| 72.69 | 92.21 |" in markdown
    assert {tmp_path / "one" / "report.html", tmp_path / "two" / "report.html"} <= set(written)


@pytest.mark.usefixtures("plain_figures")
def test_suite_latex_is_a_whole_table(tmp_path, scores):
    """Every row of the LaTeX table has as many cells as the table has columns, and braces balance."""
    write_suite([evaluation_of(run_of(scores), title="[x] 50% & {y}")], tmp_path, images=False)
    latex = (tmp_path / "suite.tex").read_text()

    columns = len(re.search(r"\\begin{tabular}{(\w+)}", latex)[1])
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows] == [columns] * 3
    assert len(re.findall(r"(?<!\\){", latex)) == len(re.findall(r"(?<!\\)}", latex))
    assert r"{[}x] 50\% \& \{y\}" in latex


@pytest.mark.usefixtures("plain_figures")
def test_suite_with_a_set_twice(tmp_path, scores):
    """Two splits of one set have a folder each."""
    sets = [evaluation_of(run_of(scores), split=split) for split in ("train", "test")]
    write_suite(sets, tmp_path, images=False)

    assert json.loads((tmp_path / "rafdb" / "metrics.json").read_text())["dataset"]["split"] == "train"
    assert json.loads((tmp_path / "rafdb-2" / "metrics.json").read_text())["dataset"]["split"] == "test"


@pytest.mark.parametrize("width", [390, 1200])
def test_pages_in_chromium(suite, browser, width):
    """A browser opens the pages from files, shows every image, asks for nothing more, and has no error to report."""
    for path in suite:
        page = browser.new_page(viewport={"width": width, "height": 800})
        complaints, requests = [], []
        page.on("console", lambda message, to=complaints: to.append(message.text))
        page.on("pageerror", lambda error, to=complaints: to.append(str(error)))
        page.on("request", lambda request, to=requests: to.append(request.url))
        page.goto(path.as_uri())

        assert complaints == []
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.locator("h1").inner_text()
        page.close()
