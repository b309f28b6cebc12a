"""Published figures of other work: on which images each was measured, and beside which evaluation it may stand.

A figure is printed beside an evaluation only where set, split, number of images, classes and protocol are the same.
Most papers state no number of images. It is then inferred from the decimals: accuracy is a count over N, and few counts
give a figure of two decimals where N is small.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["cross_set", "adapted", "in_set"]
"""`in_set` models were trained on the training split of the same set. `adapted` ones saw its images without labels.
`cross_set` models saw no image of the set."""
Confirmed = Literal["stated", "fits", "no"]
"""How the number of images is known: the source states it; the decimals fit it, and no other usual number; or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A published accuracy, and on which images it was measured."""

    dataset: str
    """A key of `cards.CARDS`."""
    split: str | None
    """None where it is not known."""
    n: int | None
    """How many images; None where it is not known."""
    classes: int = 7
    protocol: str | None = None
    """One of the card's; None where the card has none, or which one was used is not known."""
    value: float
    """Accuracy in percent, with two decimals."""
    what: str
    """The model, and what it was trained on."""
    kind: Kind
    source: str
    """Where the figure was published."""
    address: str
    """Of the source, on the web."""
    confirmed: Confirmed
    note: str = ""
    """What else is known of the images, or is not."""

    @property
    def figure(self) -> str:
        """The figure as it was printed."""
        return f"{self.value:.2f}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A published figure of the same set that may not stand beside an evaluation."""

    anchor: Anchor
    reason: str
    """Why it is not comparable, as a clause."""


class Comparable(NamedTuple):
    """The published figures of a set, sorted for one evaluation of it."""

    alike: tuple[Anchor, ...]
    left_out: tuple[LeftOut, ...]


def published_beside(
    dataset: str,
    *,
    split: str,
    protocol: str | None,
    n: int,
    classes: int,
    relabelled: bool = False,
    own_classes: bool = False,
) -> Comparable:
    """Which published figures of a set were measured on the same images as an evaluation.

    Args:
        n: Labelled images of the evaluation. One more or less than published, and no figure is comparable.
        classes: How many classes the labels have.
        relabelled: The labels go by a map of the user's.
        own_classes: The classes are a model's, and not the seven emotions, perhaps with contempt.
    """
    alike: list[Anchor] = []
    left_out: list[LeftOut] = []
    for anchor in ANCHORS:
        if anchor.dataset != dataset:
            continue
        reason = _why_unlike(anchor, split, protocol, n, classes)
        if own_classes:
            reason = f"it is of {anchor.classes} classes, and this evaluation of those of its model"
        if reason is None and relabelled:
            reason = "the labels of this evaluation go by a label map of its own"
        if reason is None:
            alike.append(anchor)
        else:
            left_out.append(LeftOut(anchor, reason))
    return Comparable(tuple(alike), tuple(left_out))


def _why_unlike(anchor: Anchor, split: str, protocol: str | None, n: int, classes: int) -> str | None:
    """The first difference; None where there is none."""
    if anchor.classes != classes:
        return f"it is of {anchor.classes} classes, and this evaluation of {classes}"
    if anchor.split is not None and anchor.split != split:
        return f"it was measured on the split {anchor.split}, and this is {split}"
    if anchor.n is None:
        return anchor.note or "on which images it was measured is not known"
    if anchor.n != n:
        return f"it was measured on {anchor.n:,} images, and {n:,} were read here"
    if anchor.split is None:
        return "on which split it was measured is not known"
    if anchor.protocol != protocol:
        return f"its protocol is {anchor.protocol or 'not known'}, and this is {protocol or 'without one'}"
    return None


# ---- which number of images a figure fits -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fit:
    """A number of images of which a share, in percent, is printed as a given figure."""

    n: int
    correct: int
    """One number of right answers that gives the figure."""
    how: Literal["rounded", "truncated"]
    """Whether the share rounds half up to the figure, or only begins with its digits."""


def fit(figure: str, n: int) -> Fit | None:
    """Whether a share of n images can be printed as the figure, such as `53.87`; None where no count gives it.

    A figure that fits says nothing where there are many images: see `always_fits`.

    Raises:
        ConfigError: The figure is no percentage with decimals.
    """
    digits, scale = _digits(figure)  # the figure is digits / scale percent
    whole = 100 * scale  # a count k is printed as 100 k / n percent: as whole * k / n of the last decimal
    # Rounded half up: digits - 1/2 <= whole * k / n < digits + 1/2. Integers, so that halves are exact.
    rounded = max(-((1 - 2 * digits) * n // (2 * whole)), 0)
    if 2 * whole * rounded < (2 * digits + 1) * n and rounded <= n:
        return Fit(n, rounded, "rounded")
    truncated = -(-digits * n // whole)
    if whole * truncated < (digits + 1) * n and truncated <= n:
        return Fit(n, truncated, "truncated")
    return None


def always_fits(figure: str, n: int) -> bool:
    """Whether every figure with as many decimals fits n images: for two decimals, 10,000 and more.

    Raises:
        ConfigError: As `fit`.
    """
    return n >= 100 * _digits(figure)[1]


def fitting(figure: str, candidates: Iterable[int]) -> list[Fit]:
    """Which of the numbers of images the figure fits, in their order; as `fit`."""
    return [found for n in candidates if (found := fit(figure, n)) is not None]


def _digits(figure: str) -> tuple[int, int]:
    """`53.87` -> 5387, 100."""
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,6})", figure.strip())
    if found is None or int(found[1]) > 100 or (int(found[1]) == 100 and int(found[2])):
        raise ConfigError(f"a figure is a percentage with its decimals, such as 53.87, got {figure!r}")
    return int(found[1] + found[2]), 10 ** len(found[2])


# ---- the figures ------------------------------------------------------------------------------------------

_CAFE = ("CAFE, ECCV 2024, Table 1", "https://arxiv.org/abs/2408.10614")
_AGRA = ("AGRA, CD-FER benchmark, ResNet-50 from RAF-DB", "https://arxiv.org/abs/2008.00923")
_MOTIVNET = ("MotivNet", "https://arxiv.org/abs/2512.24231")
_POSTER = ("POSTER++", "https://arxiv.org/abs/2301.12149")
_QCS = ("QCS", "https://arxiv.org/abs/2411.01988")
_FMAE = ("FMAE-IAT", "https://arxiv.org/abs/2407.11243")
_HSEMOTION = ("HSEmotion", "https://github.com/HSE-asavchenko/face-emotion-recognition")

_ALIGNED = "not confirmed: that the aligned crops were used"


def _anchor(
    value: float,
    what: str,
    source: tuple[str, str],
    kind: Kind,
    dataset: str,
    split: str | None,
    n: int | None,
    *,
    classes: int = 7,
    protocol: str | None = None,
    note: str = "",
) -> Anchor:
    """One of the table: every number of images in it is one that the decimals fit."""
    return Anchor(
        value=value,
        what=what,
        source=source[0],
        address=source[1],
        kind=kind,
        dataset=dataset,
        split=split,
        n=n,
        classes=classes,
        protocol=protocol,
        confirmed="no" if n is None else "fits",
        note=note,
    )


def _from_affectnet(
    cafe: float,
    eac: float,
    scn: float,
    dataset: str,
    split: str,
    n: int,
    *,
    protocol: str | None = None,
    note: str = "",
) -> tuple[Anchor, ...]:
    """A column of CAFE's table."""
    how = "trained on AffectNet, no image of this set seen"
    return tuple(
        _anchor(value, f"{name}, {how}", _CAFE, "cross_set", dataset, split, n, protocol=protocol, note=note)
        for name, value in (("CAFE", cafe), ("EAC", eac), ("SCN", scn))
    )


def _from_rafdb(value: float, dataset: str, split: str | None, n: int | None, note: str) -> Anchor:
    how = "AGRA, trained on RAF-DB and adapted to this set's images without their labels"
    return _anchor(value, how, _AGRA, "adapted", dataset, split, n, note=note)


def _in_rafdb(value: float, name: str, source: tuple[str, str], note: str = "") -> Anchor:
    what = f"{name}, trained on this set"
    return _anchor(value, what, source, "in_set", "rafdb", "test", 3_068, protocol="aligned", note=note)


def _in_affectnet(value: float, name: str, source: tuple[str, str], note: str = "") -> Anchor:
    return _anchor(value, f"{name}, trained on this set", source, "in_set", "affectnet7", "val", 3_500, note=note)


ANCHORS: tuple[Anchor, ...] = (
    *_from_affectnet(72.69, 66.10, 70.70, "rafdb", "test", 3_068, protocol="aligned", note=_ALIGNED),
    _in_rafdb(92.21, "POSTER++", _POSTER),
    _in_rafdb(92.50, "QCS", _QCS, _ALIGNED),
    _in_rafdb(93.09, "FMAE ViT-L", _FMAE, _ALIGNED),
    _anchor(
        64.87,
        "CAFE, trained on this set",
        _CAFE,
        "in_set",
        "affectnet7",
        None,
        None,
        note="no count of the 3,500 images of val gives it",
    ),
    _in_affectnet(67.49, "POSTER++", _POSTER),
    _in_affectnet(67.94, "QCS", _QCS),
    _in_affectnet(66.51, "HSEmotion enet_b2", _HSEMOTION, "not confirmed: the figure itself"),
    _anchor(
        53.87,
        "MotivNet, trained on AffectNet, no image of this set seen",
        _MOTIVNET,
        "cross_set",
        "fer2013",
        "test",
        7_178,
        note="no count of the 3,589 images of public or private gives it",
    ),
    _from_rafdb(
        58.95, "fer2013", "test", 7_110, "of that benchmark's figures for FER2013 29 were tried: all fit 7,110 images"
    ),
    *_from_affectnet(69.94, 57.19, 63.98, "ferplus", "test", 3_137),
    _anchor(
        91.41,
        "QCS, trained on this set",
        _QCS,
        "in_set",
        "ferplus",
        "test",
        None,
        classes=8,
        note="with contempt as an eighth class; it fits both 3,153 images and 3,573",
    ),
    _from_rafdb(
        85.27, "ckplus", None, 129, "no protocol here has 129 images; that benchmark's figures for CK+ fit them"
    ),
    _from_rafdb(61.50, "jaffe", "all", 213, ""),
    *_from_affectnet(
        51.18, 44.89, 41.98, "sfew", "train", 891, protocol="aligned", note="by their number the aligned training faces"
    ),
    _from_rafdb(
        56.43,
        "sfew",
        None,
        None,
        "no count of 436, 431, 958 or 891 images gives it; most of that table's figures fit the 436 frames of val",
    ),
    _from_rafdb(68.50, "expw", None, None, "on which part of the set it was measured is not known"),
)
"""Every published figure that the package names."""
