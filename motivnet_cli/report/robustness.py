"""The part of a report about corrupted images: the table of accuracies, and their curve over severities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motivnet_cli.report import figures
from motivnet_cli.report.pages import data_uri, percent

if TYPE_CHECKING:
    from motivnet_cli.evaluation.results import CorruptedRun, Interval, Robustness, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessSection:
    """What the report shows of one run under corruptions."""

    found: Robustness
    clean: Scores
    """Of the images as they are."""
    rows: list[tuple[str, list[CorruptedRun], Interval]]
    """A corruption, its runs by severity, and the mean over them."""
    drawing: figures.Drawing
    png: str
    """The file's name in the report's folder."""
    svg: str
    caption: str

    @property
    def uri(self) -> str:
        return data_uri(self.drawing.svg, "image/svg+xml")


def robustness_section(found: Robustness, clean: Scores, slug: str) -> RobustnessSection:
    """The section of one run.

    Args:
        clean: The scores of the images as they are.
        slug: The run's, for the names of the figure's files.
    """
    runs: dict[str, list[CorruptedRun]] = {name: [] for name in found.corruptions}
    for run in found.runs:
        runs[run.corruption].append(run)
    curves = {name: [run.scores.accuracy for run in each] for name, each in runs.items()}
    return RobustnessSection(
        found=found,
        clean=clean,
        rows=[(name, each, found.by_corruption[name]) for name, each in runs.items()],
        drawing=figures.robustness(clean.accuracy, found.severities, curves),
        png=f"figures/robustness-{slug}.png",
        svg=f"figures/robustness-{slug}.svg",
        caption=_caption(found, clean.accuracy),
    )


def _caption(found: Robustness, clean: float) -> str:
    """The corruptions that cost most, in words."""
    means = sorted((mean.value, name) for name, mean in found.by_corruption.items() if mean.value is not None)
    lowest = ", ".join(f"{name} ({percent(mean)} %)" for mean, name in means[:3])
    return f"As they are {percent(clean)} %. The lowest {'mean' if len(means) == 1 else 'means'}: {lowest}."
