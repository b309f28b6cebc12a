"""What `motivnet evaluate` prints to stdout: a table to a terminal, tab-separated lines into a pipe, JSON on demand."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.cli.terminal import print_data, print_json, print_lines, table_lines
from motivnet_cli.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from motivnet_cli.evaluation.datasets.card import DatasetCard
    from motivnet_cli.evaluation.results import AcrossSets, Evaluation, Grouping, Interval

_HEADLINES = ("accuracy", "uar", "macro_f1", "weighted_f1", "top2_accuracy", "kappa")


def print_evaluations(
    evaluations: Sequence[Evaluation], *, is_suite: bool, as_json: bool, across: AcrossSets | None = None
) -> None:
    """Print the main figures of each set and run, and the tests between runs and groups.

    Args:
        across: Of a suite of several runs.
    """
    from motivnet_cli.evaluation.results import to_json

    if as_json:
        print_json(to_json(evaluations if is_suite else evaluations[0]))
    elif sys.stdout.isatty():
        _print_for_people(_table(evaluations), _CAPTION, *_tests(evaluations, across), narrowest=_NARROWEST)
    else:
        blocks = [_lines(evaluations), _pair_lines(evaluations), _group_lines(evaluations), _set_lines(across)]
        print_lines("\n\n".join("\n".join(block) for block in blocks if block).split("\n"))


def _print_for_people(*parts: RenderableType, narrowest: int = 0) -> None:
    """Print to a terminal, wrapped between words at its width.

    Args:
        narrowest: Columns below which the terminal has to break lines itself, lest a number be cut.
    """
    from rich.console import Console

    size = shutil.get_terminal_size()  # of stdout; a Console would ask stdin first
    console = Console(highlight=False, width=max(size.columns, narrowest), height=size.lines)
    with console.capture() as capture:
        for part in parts:
            console.print(part, markup=False, emoji=False)
    print_data(capture.get().rstrip("\n"))


# ---- an evaluation ----------------------------------------------------------------------------------------

_NARROWEST = 72
"""Columns of a table with eight for each name: 72.69 (71.05-74.24), numbers of five digits, and two blanks between."""
_CAPTION = "Percent of all N; what is missed is wrong. In brackets: 95 % intervals."


def _table(evaluations: Sequence[Evaluation]) -> RenderableType:
    """A row for each run, over all images; 80 columns where names are no longer than those of the package."""
    table = _headed("set", "run")
    for evaluation in evaluations:
        name, n = evaluation.dataset.name, f"{evaluation.runs[0].scores.n:,}"
        for run in evaluation.runs:
            all_ = run.scores.all
            figures = [
                _percent(all_["accuracy"], with_interval=True),
                _percent(all_["macro_f1"]),
                _percent(all_["uar"]),
            ]
            table.add_row(*_plain(name, run.name, n, *figures, f"{run.scores.n_missed:,}"))
        for mean, accuracy in _means(evaluation).items():
            table.add_row(*_plain(name, mean, n, _percent(accuracy, with_interval=True)))
    return table


def _headed(*names: str) -> Table:
    """No rows yet: columns of these names, and of the figures of a run or group."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in _plain(*names):
        table.add_column(name, overflow="fold")
    for title in ("N", "accuracy", "macro-F1", "UAR", "missed"):
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _means(evaluation: Evaluation) -> dict[str, Interval]:
    """The mean accuracies under corruption of each run that has any, by what they are called here."""
    means: dict[str, Interval] = {}
    for found in evaluation.robustness:
        of_run = "" if len(evaluation.robustness) == 1 else f"{found.run}, "
        means |= {f"{of_run}mean {name}": accuracy for name, accuracy in found.by_corruption.items()}
        means[f"{of_run}mean corruption"] = found.mean_accuracy
    return means


def _plain(*cells: str) -> list[RenderableType]:
    """Cells in which nothing is markup."""
    from rich.text import Text

    return [Text(one_line(cell)) for cell in cells]


def _percent(figure: Interval | None, *, with_interval: bool = False) -> str:
    """Such as `72.69 (71.05-74.24)`; empty where the figure is undefined."""
    if figure is None or figure.value is None:
        return ""
    value = f"{100 * figure.value:.2f}"
    if not with_interval or figure.if_defined is None:
        return value
    _, low, high = figure.if_defined
    return f"{value} ({100 * low:.2f}-{100 * high:.2f})"


def _tests(evaluations: Sequence[Evaluation], across: AcrossSets | None) -> Iterator[RenderableType]:
    """The tests between runs, groups and sets, each kind after an empty line."""
    from motivnet_cli.report.comparisons import words_on_groups, words_on_pair, words_on_sets

    for evaluation in evaluations:
        if evaluation.between:
            yield from _plain("", f"{evaluation.dataset.name}, between the runs:")
            yield from _plain(*(words_on_pair(pair, len(evaluation.between)) for pair in evaluation.between))
        for run in evaluation.runs:
            for grouping in run.by:
                yield from _plain("", f"{evaluation.dataset.name}, {run.name}, by {grouping.column}:")
                yield _group_table(grouping)
                yield from _plain(*([words_on_groups(grouping.test, evaluation.dataset.unit)] if grouping.test else []))
    if across:
        yield from _plain("", "over the sets, accuracy:", *words_on_sets(across))


def _group_table(grouping: Grouping) -> RenderableType:
    """A row for each group of images, over all of them."""
    table = _headed(grouping.column)
    for group in grouping.groups:
        shares = [_percent(group.accuracy, with_interval=True), _percent(group.macro_f1), _percent(group.uar)]
        table.add_row(*_plain(group.name, f"{group.n:,}", *shares, f"{group.n_missed:,}"))
    return table


def _lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Tab-separated, so that cut and column read it: a line for each run, over all images and over those scored."""
    names = [name for figure in _HEADLINES for name in _columns(figure)]
    lines = ["\t".join(("dataset", "run", "over", "n", *names, "missed", "split", "protocol"))]
    for evaluation in evaluations:
        runs = [(run.name, run.scores) for run in evaluation.runs]
        runs += [(run.name, run.scores) for found in evaluation.robustness for run in found.runs]
        for name, scores in runs:
            lines.append(_line(evaluation, name, ("all", scores.n), scores.all, scores.n_missed))
            lines.append(_line(evaluation, name, ("scored", scores.n_scored), scores.scored, scores.n_missed))
        for name, accuracy in _means(evaluation).items():
            lines.append(_line(evaluation, name, ("all", evaluation.runs[0].scores.n), {"accuracy": accuracy}, None))
    return lines


def _line(
    evaluation: Evaluation,
    run: str,
    over: tuple[str, int],
    figures: Mapping[str, Interval | None],
    n_missed: int | None,
) -> str:
    dataset = evaluation.dataset
    cells = [dataset.name, one_line(run), over[0], str(over[1]), *(_cell(figures.get(name)) for name in _HEADLINES)]
    return "\t".join([*cells, "" if n_missed is None else str(n_missed), dataset.split, dataset.protocol or ""])


def _columns(figure: str) -> tuple[str, str, str]:
    """The columns of a figure and of the ends of its 95 % interval."""
    return figure, f"{figure}_low", f"{figure}_high"


def _cell(figure: Interval | None) -> str:
    """A figure and the ends of its interval, in three columns; each is empty where it is undefined."""
    if figure is None:
        return "\t\t"
    return "\t".join("" if each is None else f"{each:.4f}" for each in (figure.value, figure.low, figure.high))


def _pair_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """A line for each pair of runs, over all images; differences are a minus b."""
    rows = [
        (
            evaluation.dataset.name,
            one_line(pair.a),
            one_line(pair.b),
            str(pair.scores.all.n),
            f"{pair.scores.all.accuracy_a:.4f}",
            f"{pair.scores.all.accuracy_b:.4f}",
            _cell(pair.scores.all.difference),
            str(pair.scores.all.table.only_a),
            str(pair.scores.all.table.only_b),
            pair.scores.bootstrap.unit,
            f"{pair.scores.all.p:.4g}",
            f"{pair.p_holm:.4g}",
        )
        for evaluation in evaluations
        for pair in evaluation.between
    ]
    names = ("dataset", "a", "b", "n", "accuracy_a", "accuracy_b", *_columns("difference"), "only_a", "only_b", "unit")
    return ["\t".join(row) for row in [(*names, "p", "p_holm"), *rows]] if rows else []


def _group_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """A line for each group of images, over all of them; p is that of the column: whether its groups differ."""
    rows = [
        (
            evaluation.dataset.name,
            one_line(run.name),
            one_line(grouping.column),
            one_line(group.name),
            str(group.n),
            *map(_cell, (group.accuracy, group.uar, group.macro_f1)),
            str(group.n_missed),
            f"{grouping.test.p:.4g}" if grouping.test else "",
        )
        for evaluation in evaluations
        for run in evaluation.runs
        for grouping in run.by
        for group in grouping.groups
    ]
    figures = [name for figure in ("accuracy", "uar", "macro_f1") for name in _columns(figure)]
    names = ("dataset", "run", "by", "group", "n", *figures, "missed", "p")
    return ["\t".join(row) for row in [names, *rows]] if rows else []


def _set_lines(across: AcrossSets | None) -> list[str]:
    """A line for each pair of runs over the sets, and before them one for Friedman's test."""
    if across is None:
        return []
    lines = ["\t".join(("sets", "a", "b", "mean_difference", "a_better", "b_better", "test", "p", "p_holm"))]
    if across.friedman:
        lines.append("\t".join((str(len(across.sets)), *[""] * 5, "friedman", f"{across.friedman.p:.4g}", "")))
    for pair in across.pairs:
        cells = [str(len(across.sets)), one_line(pair.a), one_line(pair.b), f"{pair.mean_difference:.4f}"]
        cells += [str(pair.a_better), str(pair.b_better), "wilcoxon", f"{pair.wilcoxon_p:.4g}", f"{pair.p_holm:.4g}"]
        lines.append("\t".join(cells))
    return lines


# ---- which number of images a figure fits -----------------------------------------------------------------


class _FitRow(NamedTuple):
    """A published number of images, and whether a figure can be a share of it."""

    dataset: str
    split: str
    protocol: str | None
    contempt: str
    """`dropped` or `kept`, as an eighth class."""
    n: int
    fits: str
    """`rounded`, `truncated` or `no`; `any` where so many images can give every figure."""
    correct: int | None
    """Right answers that give the figure."""


def print_fits(figure: str, dataset: str | None, *, as_json: bool) -> None:
    """Print which of the cards' numbers of images, of all sets or of one, can give an accuracy in percent.

    Raises:
        ConfigError: The figure is no percentage with decimals, or no set has the name.
    """
    from motivnet_cli.evaluation.datasets.cards import CARDS as DATASETS
    from motivnet_cli.evaluation.datasets.read import card_named

    cards = [*DATASETS.values()] if dataset is None else [card_named(dataset)]
    rows = [row for card in cards for row in _fit_rows(figure, card)]
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    table = [_FitRow._fields, *(tuple("" if cell is None else str(cell) for cell in row) for row in rows)]
    print_lines(table_lines(table))


def _fit_rows(figure: str, card: DatasetCard) -> list[_FitRow]:
    from motivnet_cli.evaluation.datasets.published import always_fits, fit

    rows = []
    for each in card.counts:
        totals = [] if each.total is None else [("dropped", each.total)]
        for contempt, n in [*totals, *(("kept", count) for count in each.with_contempt)]:
            found = fit(figure, n)
            how, correct = (found.how, found.correct) if found else ("no", None)
            how = "any" if always_fits(figure, n) else how
            rows.append(_FitRow(card.name, each.split, each.protocol, contempt, n, how, correct))
    return rows
