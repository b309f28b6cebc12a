"""Published figures: each stands beside its own images only, and the number of images fits its decimals."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.cards import CARDS
from motivnet_cli.evaluation.datasets.published import ANCHORS, Fit, always_fits, fit, fitting, published_beside
from motivnet_cli.evaluation.evaluate import evaluate

CODES = ("NE", "HA", "SA", "SU", "FE", "DI", "AN")
TOP = Path(__file__).parents[1]
ON_THE_SAME_IMAGES = {
    ("rafdb", "test", "aligned", 3_068, 7): {72.69, 66.10, 70.70, 92.21, 92.50, 93.09},
    ("affectnet7", "val", None, 3_500, 7): {67.49, 67.94, 66.51},
    ("fer2013", "test", None, 7_178, 7): {53.87},
    ("fer2013", "test", None, 7_110, 7): {58.95},
    ("ferplus", "test", None, 3_137, 7): {69.94, 57.19, 63.98},
    ("jaffe", "all", None, 213, 7): {61.50},
    ("sfew", "train", "aligned", 891, 7): {51.18, 44.89, 41.98},
}
"""Written by hand: the only evaluations that a published figure may stand beside."""
NEVER = {("affectnet7", 64.87), ("ferplus", 91.41), ("ckplus", 85.27), ("sfew", 56.43), ("expw", 68.50)}
"""Figures of which the images are not known, or are those of no layout."""


def evaluations():
    """Every card, split, protocol and number of classes, with every number of images that is known of, and others."""
    numbers = {each.total for card in CARDS.values() for each in card.counts if each.total}
    numbers |= {count for card in CARDS.values() for each in card.counts for count in each.with_contempt}
    numbers |= {anchor.n for anchor in ANCHORS if anchor.n}
    numbers |= {n + step for n in numbers for step in (-1, 1)}
    for card in CARDS.values():
        yield from itertools.product([card.name], card.splits, [None, *card.protocols], sorted(numbers), (6, 7, 8))


def test_figures_stand_beside_their_own_images_only():
    """Of all evaluations that there can be, a figure stands beside those of the list; elsewhere it has its reason."""
    seen = {}
    for case in evaluations():
        name, split, protocol, n, classes = case
        alike, left_out = published_beside(name, split=split, protocol=protocol, n=n, classes=classes)
        if alike:
            seen[case] = {anchor.value for anchor in alike}
        of_set = {anchor.value for anchor in ANCHORS if anchor.dataset == name}
        assert {anchor.value for anchor in alike} | {each.anchor.value for each in left_out} == of_set
        assert all(each.reason for each in left_out)
    assert seen == ON_THE_SAME_IMAGES


def test_a_label_map_of_ones_own_leaves_all_figures_out():
    """Labels that go by another map are other labels, however many images there are."""
    alike, left_out = published_beside("rafdb", split="test", protocol="aligned", n=3_068, classes=7, relabelled=True)
    assert not alike
    assert all("label map" in each.reason for each in left_out)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (("fer2013", "private", None, 3_589, 7), "it was measured on the split test, and this is private"),
        (("rafdb", "test", "aligned", 3_067, 7), "it was measured on 3,068 images, and 3,067 were read here"),
        (("rafdb", "test", "original", 3_068, 7), "its protocol is aligned, and this is original"),
        (("ferplus", "test", None, 3_137, 7), "it is of 8 classes, and this evaluation of 7"),
        (("affectnet7", "val", None, 3_500, 7), "no count of the 3,500 images of val gives it"),
    ],
)
def test_the_reason_is_said(where, words):
    """What is left out names the first difference, with both sides of it."""
    name, split, protocol, n, classes = where
    left_out = published_beside(name, split=split, protocol=protocol, n=n, classes=classes).left_out
    assert words in [each.reason for each in left_out]


def test_every_figure_belongs_to_a_card_and_fits_its_images():
    """Sets, splits and protocols exist; a number of images is one that the decimals can give; no figure twice."""
    for anchor in ANCHORS:
        card = CARDS[anchor.dataset]
        assert anchor.split is None or anchor.split in card.splits
        assert anchor.protocol is None or anchor.protocol in card.protocols
        assert anchor.address.startswith("https://")
        assert (anchor.confirmed == "no") == (anchor.n is None)
        assert anchor.n is None or fit(anchor.figure, anchor.n)
    listed = [(anchor.dataset, anchor.value) for anchor in ANCHORS]
    expected = {(case[0], value) for case, values in ON_THE_SAME_IMAGES.items() for value in values} | NEVER
    assert len(listed) == len(set(listed))
    assert set(listed) == expected


def test_the_number_of_images_is_the_only_one_that_fits():
    """All figures of a source on a set round from their number, and from no other that a split for evaluation has."""
    tables = {}
    for anchor in ANCHORS:
        if anchor.n is not None:
            tables.setdefault((anchor.source, anchor.dataset, anchor.n), []).append(anchor.figure)
    for (_, name, n), figures in tables.items():
        others = {each.total for each in CARDS[name].counts if each.total and each.total < 10_000} - {n}
        fits = {m for m in (n, *others) if all((found := fit(each, m)) and found.how == "rounded" for each in figures)}
        assert fits == {n}


def test_the_documents_name_no_other_published_figure():
    """An accuracy in percent that a page or a model's card gives with two decimals is one of the table."""
    known = {anchor.figure for anchor in ANCHORS}
    pages = ["README.md", "docs/models.md", "docs/similarity.md", "docs/metrics.md", "docs/datasets.md"]
    for page in (*map(TOP.joinpath, pages), *(TOP / "docs" / "decisions").glob("*.md")):
        named = set(re.findall(r"(?<![\d.,])\d\d\.\d\d(?= ?%| \|)", page.read_text()))
        assert named <= known, page.name


def test_an_evaluation_takes_the_figures_of_its_own_images(tmp_path):
    """JAFFE's 213 files have its figure beside them; one file less, or a label map, and it is left out."""
    root, table = tmp_path / "jaffe", tmp_path / "table.csv"
    root.mkdir()
    names = [
        f"{'ABCDEFGHIJ'[number % 10]}K.{code}{number}.{number}.tiff"
        for number, code in zip(range(213), itertools.cycle(CODES))
    ]
    for name in names:
        (root / name).touch()
    table.write_text("\n".join(["path,prediction", *(f"{name},fear" for name in names)]))

    def evaluated(**settings):
        out = str(tmp_path / "out")
        where = {"dataset": "jaffe", "root": str(root), "out": out, "predictions": str(table)}
        config = EvaluateConfig(**where, resamples=9, **settings)
        (evaluation,) = evaluate([config])
        return [each.value for each in evaluation.anchors], [each.reason for each in evaluation.anchors_left_out]

    assert evaluated() == ([61.50], [])
    relabelled, reasons = evaluated(label_map={"ne": "happy"})
    (root / names[0]).unlink()
    assert (relabelled, reasons) == ([], ["the labels of this evaluation go by a label map of its own"])
    assert evaluated() == ([], ["it was measured on 213 images, and 212 were read here"])


# ---- the check of a figure against a number of images -----------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "n", "expected"),
    [
        ("53.87", 3_589, None),  # 1,933 is 53.859 and 1,934 is 53.887
        ("53.87", 7_178, Fit(7_178, 3_867, "rounded")),  # 53.873
        ("58.95", 7_110, Fit(7_110, 4_191, "rounded")),  # 58.945, which rounds half up
        ("85.27", 129, Fit(129, 110, "rounded")),  # 85.271
        ("85.27", 327, None),
        ("51.18", 891, Fit(891, 456, "rounded")),  # 51.178
        ("51.18", 436, None),
        ("64.87", 3_500, None),  # 2,270 is 64.857 and 2,271 is 64.886
        ("66.6", 3, Fit(3, 2, "truncated")),
        ("66.7", 3, Fit(3, 2, "rounded")),
        ("0.00", 5, Fit(5, 0, "rounded")),
        ("100.00", 5, Fit(5, 5, "rounded")),
        ("12.5", 8, Fit(8, 1, "rounded")),
        ("50.0", 0, None),
    ],
)
def test_fit_by_hand(figure, n, expected):
    """Counts worked out by hand."""
    assert fit(figure, n) == expected


@settings(max_examples=50)
@given(st.integers(1, 400), st.data(), st.integers(1, 3))
def test_a_count_fits_its_own_figure(n, data, decimals):
    """Whatever k of n is printed as, rounded half up or cut off, fits n."""
    k = data.draw(st.integers(0, n))
    exact = Fraction(100 * k * 10**decimals, n)
    for whole in (int(exact + Fraction(1, 2)), int(exact)):
        figure = f"{whole // 10**decimals}.{whole % 10**decimals:0{decimals}}"
        assert fit(figure, n) is not None


@settings(max_examples=50)
@given(st.integers(1, 200), st.integers(0, 10_000))
def test_fit_is_what_trying_every_count_finds(n, hundredths):
    """Against all counts, one by one."""
    figure = f"{hundredths // 100}.{hundredths % 100:02}"
    exact = [Fraction(10_000 * k, n) for k in range(n + 1)]
    rounded = [k for k, share in enumerate(exact) if int(share + Fraction(1, 2)) == hundredths]
    truncated = [k for k, share in enumerate(exact) if int(share) == hundredths]
    found = fit(figure, n)
    if rounded:
        assert found == Fit(n, rounded[0], "rounded")
    elif truncated:
        assert found == Fit(n, truncated[0], "truncated")
    else:
        assert found is None


@given(st.integers(0, 10_000))
def test_from_ten_thousand_images_on_two_decimals_say_nothing(hundredths):
    """Every figure fits 10,000 images, and one more, by rounding; of 9,999 that is not said."""
    figure = f"{hundredths // 100}.{hundredths % 100:02}"
    for n in (10_000, 10_001):
        assert always_fits(figure, n)
        assert fit(figure, n).how == "rounded"
    assert not always_fits(figure, 9_999)


def test_fitting_keeps_the_order_of_the_candidates():
    """Of FER2013's splits MotivNet's figure fits the two test splits together, and what is larger than 6,667."""
    assert [each.n for each in fitting("53.87", (28_709, 3_589, 7_178))] == [28_709, 7_178]


@pytest.mark.parametrize("figure", ["53", "0.5387e2", "100.01", "-1.00", "fifty", "", "53.87 %"])
def test_what_is_no_figure_is_refused(figure):
    """The message names the value and what was expected."""
    with pytest.raises(ConfigError, match=r"a percentage with its decimals, such as 53\.87"):
        fit(figure, 100)
