"""The figures of the reports on evaluations and trainings, drawn with matplotlib.

Nothing here knows of files, pages or formulas of metrics. Figures carry no names given by a user, whose letters the
font might lack: captions belong to the page. The same values give the same bytes, so a report made again does not
change.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

    from motivnet_cli.evaluation.results import Interval, Scores

PNG_DPI = 200
Measured = tuple[float | None, float | None, float | None]
"""A share from 0 to 1 with the ends of its interval; None where they are unknown."""
CurveAxis = Literal["share", "plain", "log"]
"""Of the values of a curve: 0 to 1 in percent, as they are, or on a logarithmic scale."""

_INK, _FAINT, _LINE = "#1c2530", "#5b6675", "#d5dae1"
_BLUE, _SKY, _ORANGE = "#0b4f8a", "#6aaed6", "#d9822b"
"""Apart in lightness as well as in hue, so that they stay apart in grey print and for colour-blind readers."""
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2530")
"""For many lines: Okabe and Ito's colours, told apart by colour-blind readers."""

_STYLE = mpl.RcParams(
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure is the same on every machine
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _LINE,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "grid.color": _LINE,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "svg.fonttype": "path",
        "text.parse_math": False,  # a class may be called $x$
        "svg.hashsalt": "motivnet",
    }
)


class Drawing(NamedTuple):
    """The content of a figure's two files."""

    png: bytes
    svg: bytes


def confusion(scores: Scores) -> Drawing:
    """The confusion matrix: cells hold the share of their row in percent and the count.

    Rows are the labels, columns the predictions; images without a prediction, where there are some, are a column
    apart, so that a row's shares sum to 100 % over all labelled images.
    """
    more = 0.55 * max(len(scores.classes) - 9, 0)
    return _drawn(lambda figure: _confusion(figure, scores), size=(6.6 + more, 5.4 + more))


def per_class(scores: Scores) -> Drawing:
    """Precision, recall and F1 of each class over all labelled images."""
    return _drawn(lambda figure: _per_class(figure, scores), size=(5.2, 3.3))


def reliability(scores: Scores) -> Drawing:
    """Accuracy against confidence by bin, above the share of images in each bin."""
    return _drawn(lambda figure: _reliability(figure, scores), size=(5.2, 3.6))


def accuracy_by_set(sets: Sequence[str], series: Sequence[Sequence[Interval | None]]) -> Drawing:
    """Accuracy over all labelled images with its interval, a row for each set.

    Args:
        sets: Names of the rows; plain ASCII.
        series: For each run, its accuracy on each set, from 0 to 1; None where it was not scored on the set.
    """
    return _drawn(lambda figure: _accuracy_by_set(figure, sets, series), size=(6.6, 1.0 + 0.42 * len(sets)))


def robustness(clean: float, severities: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Drawing:
    """Accuracy over severities, a line for each corruption, from the accuracy of the images as they are.

    Args:
        clean: That accuracy, 0 to 1.
        curves: By corruption, the accuracy at each severity.
    """
    return _drawn(lambda figure: _robustness(figure, clean, severities, curves), size=(6.6, 3.6))


def curves(
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float | None]],
    *,
    axis: CurveAxis,
    best: int | None = None,
) -> Drawing:
    """A line for each series over the epochs, which are marked where one was the best.

    Args:
        series: By name, a value an epoch; None where there is none.
    """
    return _drawn(lambda figure: _curves(figure, epochs, series, axis, best), size=(5.2, 3.1))


def few_shot(shots: Sequence[int], series: Mapping[str, Sequence[Measured]]) -> Drawing:
    """Shares with their intervals over the number of faces of each class, on a logarithmic axis.

    Args:
        series: By name, for each number of faces.
    """
    return _drawn(lambda figure: _few_shot(figure, shots, series), size=(5.2, 3.1))


def _drawn(draw: Callable[[Figure], None], *, size: tuple[float, float]) -> Drawing:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        png = _saved(figure, "png", {"Software": None})
        figure.set_layout_engine("none")  # what the first drawing found serves the second: half the time
        return Drawing(png, _saved(figure, "svg", {"Date": None}))


def _saved(figure: Figure, kind: Literal["png", "svg"], metadata: dict[str, None]) -> bytes:
    file = BytesIO()
    figure.savefig(file, format=kind, dpi=PNG_DPI, metadata=metadata)
    return file.getvalue()


def _confusion(figure: Figure, scores: Scores) -> None:
    classes = scores.confusion.rows
    counts = np.asarray(scores.confusion.counts, dtype=np.int64)  # [C, C + 1]
    shares = np.asarray(scores.confusion.shares)  # [C, C + 1]
    num_classes = len(classes)
    gap = 0.25
    edges = np.arange(num_classes + 1, dtype=float)
    missed_edges = edges[-1] + gap + np.array([0.0, 1.0])
    blocks = [(edges, shares[:, :-1], "Blues"), (missed_edges, shares[:, -1:], "Oranges")]
    centres, names = [*(edges[:-1] + 0.5), num_classes + gap + 0.5], [*classes, "missed"]
    if not scores.n_missed:
        counts = counts[:, :-1]
        del blocks[1], centres[-1], names[-1]
    axes = figure.subplots()
    for columns, values, colours in blocks:
        axes.pcolormesh(columns, edges, values, cmap=colours, vmin=0.0, vmax=1.0, edgecolors="white", linewidth=1.5)
    for row, column in np.ndindex(counts.shape):
        _cell(axes, (centres[column], row + 0.5), shares[row, column], counts[row, column])
    axes.set_xticks(centres, names)
    axes.set_yticks(centres[:num_classes], classes)
    axes.tick_params(axis="x", labelrotation=35)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right")
        tick.set_rotation_mode("anchor")
    axes.invert_yaxis()
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    axes.spines[:].set_visible(False)


def _cell(axes: Axes, centre: tuple[float, float], share: float, count: int) -> None:
    """The share in percent above the count."""
    colour = "white" if share > 0.62 else _INK if count else _FAINT
    lines = ((f"{100 * share:.1f}", 3, 9.0), (f"{count:,}", -8, 6.5)) if count else (("0", 0, 9.0),)
    for text, rise, size in lines:
        axes.annotate(
            text,
            centre,
            (0, rise),
            textcoords="offset points",
            ha="center",
            va="center",
            color=colour,
            fontsize=size,
            in_layout=False,  # lies within its cell; measuring a hundred of them takes longer than drawing
        )


def _per_class(figure: Figure, scores: Scores) -> None:
    rows = scores.per_class
    axes = figure.subplots()
    width = 0.26
    for position, (name, colour, values) in enumerate(
        (
            ("precision", _SKY, [row.precision for row in rows]),
            ("recall", _BLUE, [row.recall for row in rows]),
            ("F1", _ORANGE, [row.f1 for row in rows]),
        )
    ):
        lefts = np.arange(len(rows)) + (position - 1) * width
        axes.bar(lefts, [value or 0.0 for value in values], width * 0.92, color=colour, label=name)
    axes.set_xticks(range(len(rows)), [f"{row.class_}\n{row.support:,}" for row in rows], fontsize=8)
    _percent_axis(axes, "y")
    axes.grid(axis="y")
    figure.legend(loc="outside upper right", ncols=3)
    axes.set_xlabel("class, with its number of labels")


def _reliability(figure: Figure, scores: Scores) -> None:
    bins = [bin_ for bin_ in scores.reliability if bin_.n]
    total = sum(bin_.n for bin_ in bins)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lows = [bin_.low for bin_ in bins]
    widths = [(bin_.high - bin_.low) * 0.94 for bin_ in bins]
    points = [(bin_.confidence or 0.0, bin_.accuracy or 0.0) for bin_ in bins]
    above.bar(lows, [y for _, y in points], widths, align="edge", color=_SKY, label="accuracy of the bin")
    above.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), label="confidence = accuracy")
    above.plot(*zip(*points, strict=True), color=_BLUE, marker="o", markersize=4, linewidth=1.2, clip_on=False)
    below.bar(lows, [bin_.n / total for bin_ in bins], widths, align="edge", color=_FAINT)
    _percent_axis(above, "y")
    _percent_axis(below, "x")
    above.set_ylabel("accuracy")
    above.grid(axis="y")
    figure.legend(loc="outside upper right", ncols=2)  # within the axes it would lie on bars, whatever the corner
    below.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    below.set_ylabel("number")
    below.set_xlabel("confidence")
    below.tick_params(axis="x", pad=7)  # keeps the 0 % of both axes apart


def _accuracy_by_set(figure: Figure, sets: Sequence[str], series: Sequence[Sequence[Interval | None]]) -> None:
    axes = figure.subplots()
    markers = "osD^vP"
    colours = (_BLUE, _ORANGE, _FAINT)
    for number, accuracies in enumerate(series):
        offset = 0.22 * (number - (len(series) - 1) / 2)
        known = [
            (row + offset, *(accuracy.if_defined or (accuracy.value, accuracy.value, accuracy.value)))
            for row, accuracy in enumerate(accuracies)
            if accuracy is not None and accuracy.value is not None
        ]
        spread = [
            # A bootstrap interval may leave out the value itself, by rounding or by bias.
            [max(value - low, 0.0) for _, value, low, _ in known],
            [max(high - value, 0.0) for _, value, _, high in known],
        ]
        axes.errorbar(
            [value for _, value, _, _ in known],
            [row for row, _, _, _ in known],
            xerr=spread,
            fmt=markers[number % len(markers)],
            color=colours[number % len(colours)],
            markersize=5,
            linewidth=1.4,
            capsize=3,
        )
    axes.set_yticks(range(len(sets)), sets)
    axes.set_ylim(len(sets) - 0.5, -0.5)
    _percent_axis(axes, "x")
    axes.grid(axis="x")
    axes.set_xlabel("accuracy over all N, with its 95 % interval")


def _robustness(figure: Figure, clean: float, severities: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
    axes = figure.subplots()
    axes.axhline(clean, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)))
    ticks = range(len(severities) + 1)
    for number, (name, accuracies) in enumerate(curves.items()):
        axes.plot(
            ticks,
            [clean, *accuracies],
            color=_SERIES[number % len(_SERIES)],
            marker="osD^vP*"[number % 7],
            markersize=5,
            linewidth=1.4,
            label=name,
        )
    axes.set_xticks(ticks, ["as they are", *map(str, severities)])
    _percent_axis(axes, "y")
    axes.grid(axis="y")
    axes.set_xlabel("severity")
    axes.set_ylabel("accuracy over all N")
    figure.legend(loc="outside right upper")


def _curves(
    figure: Figure,
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float | None]],
    axis: CurveAxis,
    best: int | None,
) -> None:
    axes = figure.subplots()
    for number, (name, values) in enumerate(series.items()):
        known = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
        axes.plot(
            [epoch for epoch, _ in known],
            [value for _, value in known],
            color=_SERIES[number % len(_SERIES)],
            marker="osD^vP*"[number % 7] if len(epochs) <= 40 else None,
            markersize=4,
            linewidth=1.4,
            label=name,
        )
    if best is not None:
        axes.axvline(best, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), label=f"best epoch, {best}")
    if axis == "share":
        _percent_axis(axes, "y")
    elif axis == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")
    axes.set_xlabel("epoch")
    figure.legend(loc="outside upper right", ncols=3)


def _few_shot(
    figure: Figure,
    shots: Sequence[int],
    series: Mapping[str, Sequence[Measured]],
) -> None:
    axes = figure.subplots()
    for number, (name, figures) in enumerate(series.items()):
        colour = _SERIES[number % len(_SERIES)]
        known = [
            (x, value, low, high) for x, (value, low, high) in zip(shots, figures, strict=True) if value is not None
        ]
        axes.plot(
            [x for x, *_ in known],
            [value for _, value, _, _ in known],
            color=colour,
            marker="osD^vP*"[number % 7],
            markersize=5,
            linewidth=1.4,
            label=name,
        )
        between = [(x, low, high) for x, _, low, high in known if low is not None and high is not None]
        axes.fill_between(
            [x for x, _, _ in between],
            [low for _, low, _ in between],
            [high for _, _, high in between],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xscale("log")
    axes.set_xticks(shots, [f"{each:,}" for each in shots])
    axes.set_xticks([], minor=True)
    _percent_axis(axes, "y")
    axes.grid(axis="y")
    axes.set_xlabel("faces of each class that were learned from")
    figure.legend(loc="outside upper right", ncols=3)


def _percent_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlim if which == "x" else axes.set_ylim)(0, 1)
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
