"""What `motivnet evaluate` prints to stdout: tab-separated lines, a table for people, or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.cli.terminal import print_json, print_lines

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.cards import DatasetCard


class _FitRow(NamedTuple):
    """A published number of images, and whether a figure can be a share of it."""

    dataset: str
    split: str
    protocol: str | None
    contempt: str
    """`dropped` or `kept`, as an eighth class."""
    n: int
    fits: str
    """`rounded`, `truncated` or `no`."""
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
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    print_lines("\t".join(line) for line in [_FitRow._fields, *cells])


def _fit_rows(figure: str, card: DatasetCard) -> list[_FitRow]:
    from motivnet_cli.evaluation.datasets.published import fit

    rows = []
    for each in card.counts:
        totals = [] if each.total is None else [("dropped", each.total)]
        for contempt, n in [*totals, *(("kept", count) for count in each.with_contempt)]:
            found = fit(figure, n)
            how, correct = (found.how, found.correct) if found else ("no", None)
            rows.append(_FitRow(card.name, each.split, each.protocol, contempt, n, how, correct))
    return rows
