"""An evaluation as a folder to read, check and print: metrics.json, Markdown, one HTML page, figures.

No metric is computed here, and no picture is read but for thumbnails. A page loads nothing: style, figures and
thumbnails are inside it, and its content security policy forbids requests whatever names and remarks it holds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motivnet_cli.durable import durably
from motivnet_cli.evaluation.metrics import calibration
from motivnet_cli.evaluation.results import mean_over_sets, to_json
from motivnet_cli.report import figures
from motivnet_cli.report.matching import Unfit, matching_in_words, unfit
from motivnet_cli.report.pages import LATEX, MARKDOWN, PAGES, data_uri, percent, picture_processes, thumbnail
from motivnet_cli.report.robustness import robustness_section

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from motivnet_cli.evaluation.datasets.published import Anchor
    from motivnet_cli.evaluation.results import AcrossSets, DatasetSummary, Evaluation, Interval, Run, Scores

HEADLINES = (
    ("accuracy", "Accuracy", "share named rightly (WAR)", "percent"),
    ("uar", "UAR", "mean of the classes' recalls", "percent"),
    ("macro_f1", "Macro-F1", "mean of the classes' F1", "percent"),
    ("weighted_f1", "Weighted F1", "mean of the classes' F1, by support", "percent"),
    ("top2_accuracy", "Top-2 accuracy", "label among the two likeliest", "percent"),
    ("kappa", "Cohen's kappa", "agreement beyond chance, at most 1", "plain"),
    ("auroc_macro", "AUROC", "mean over the classes, one against the rest, at most 1", "plain"),
    ("ece", "Calibration error", "ECE over 15 bins; lower is better", "percent"),
    ("brier", "Brier score", "0 to 2; lower is better", "plain"),
    ("nll", "NLL", "mean of \N{MINUS SIGN}log of the label's probability; lower is better", "plain"),
)
_SOFT_HEADLINES = (
    ("voter_agreement", "Agreement with annotators", "mean share of the votes for the predicted class", "percent"),
    ("cross_entropy", "Cross-entropy", "with the shares of the votes; lower is better", "plain"),
    ("kl", "KL divergence", "from the shares of the votes to the probabilities; lower is better", "plain"),
    ("soft_ece", "Soft calibration error", "confidence against the share of the votes; lower is better", "percent"),
)
"""Against votes."""
_SUITE_HEADLINES = (
    ("all", "accuracy", "Accuracy"),
    ("all", "uar", "UAR"),
    ("all", "macro_f1", "Macro-F1"),
    ("scored", "accuracy", "Accuracy, scored only"),
)
_ANCHOR_KINDS = (
    ("cross_set", "Trained on other sets", "Published, trained elsewhere"),
    ("adapted", "Trained on other sets, and adapted to this set's images without their labels", "Published, adapted"),
    ("in_set", "Trained on this set", "Published, trained on it"),
)
"""Kinds of published figures, their headings in a report, and those of a suite's columns."""


def write_report(evaluation: Evaluation, folder: Path, *, images: bool) -> list[Path]:
    """Write the report of one labelled set, each file whole or not at all.

    Args:
        folder: Made if it is missing; files of an earlier report are replaced.
        images: Whether the page shows the mistakes as thumbnails of their local files.

    Returns:
        The files: metrics.json, figures/{confusion,per_class,reliability,robustness}-<run>.{png,svg}, report.md,
        report.html. Not every run has the last two: they need probabilities, and corrupted images.
    """
    written = [write(folder / "metrics.json", json.dumps(to_json(evaluation), indent=1, allow_nan=False) + "\n")]
    slugs = _slugs(run.name for run in evaluation.runs)
    unit = evaluation.dataset.unit
    sections = [_section(run, slug, unit, images=images) for run, slug in zip(evaluation.runs, slugs, strict=True)]
    for figure in (figure for section in sections for figure in section.figures):
        written += [write(folder / figure.png, figure.drawing.png), write(folder / figure.svg, figure.drawing.svg)]
    scores = {run.name: (run.scores, slug) for run, slug in zip(evaluation.runs, slugs, strict=True)}
    robustness = [robustness_section(found, *scores[found.run]) for found in evaluation.robustness]
    for each in robustness:
        written += [write(folder / each.png, each.drawing.png), write(folder / each.svg, each.drawing.svg)]
    values = {
        "evaluation": evaluation,
        "dataset": evaluation.dataset,
        "runs": evaluation.runs,
        "sections": sections,
        "robustness": robustness,
        "images": images,
        "headlines": HEADLINES,
        "soft_headlines": _SOFT_HEADLINES,
        "intervals": _intervals_in_words(evaluation.runs[0].scores, evaluation.dataset.unit),
        "anchors": [(title, group) for kind, title, _ in _ANCHOR_KINDS if (group := _anchors_of(evaluation, kind))],
        "left_out": evaluation.anchors_left_out,
        "is_inferred": any(anchor.confirmed == "fits" for anchor in evaluation.anchors),
    }
    written.append(write(folder / "report.md", MARKDOWN.get_template("report.md.j2").render(values)))
    written.append(write(folder / "report.html", PAGES.get_template("report.html.j2").render(values)))
    return written


def write_suite(
    evaluations: Sequence[Evaluation], folder: Path, *, images: bool, across: AcrossSets | None = None
) -> list[Path]:
    """Write each set's report in a folder of its own, and the table over all sets.

    Args:
        images: As for `write_report`.
        across: The tests between the runs over the sets, if there are some.

    Returns:
        The files of every report, figures/accuracy.{png,svg}, the table alone as suite.md, suite.tex and suite.html,
        and index.html, which holds the table and leads to the reports; suite.json holds `across`.
    """
    slugs = _slugs(evaluation.dataset.name for evaluation in evaluations)
    written = []
    for evaluation, slug in zip(evaluations, slugs, strict=True):
        written += write_report(evaluation, folder / slug, images=images)
    kinds = {
        kind: title
        for kind, _, title in _ANCHOR_KINDS
        if any(_anchors_of(evaluation, kind) for evaluation in evaluations)
    }
    rows = [
        row for evaluation, slug in zip(evaluations, slugs, strict=True) for row in _suite_rows(evaluation, slug, kinds)
    ]
    names = list(dict.fromkeys(row.run for row in rows))
    labels = [f"{each.dataset.name}, {each.dataset.split}, {each.dataset.n:,}" for each in evaluations]
    accuracies = {(row.folder, row.run): row.figures[0] for row in rows}
    drawing = figures.accuracy_by_set(labels, [[accuracies.get((slug, name)) for slug in slugs] for name in names])
    written.append(write(folder / "figures" / "accuracy.png", drawing.png))
    written.append(write(folder / "figures" / "accuracy.svg", drawing.svg))
    values = {
        "evaluations": list(zip(slugs, evaluations, strict=True)),
        "tool": evaluations[0].tool,
        "command": evaluations[0].command,
        "columns": [title for _, _, title in _SUITE_HEADLINES],
        "published": [*kinds.values()],
        "rows": rows,
        "names": names,
        "means": [_suite_mean(name, [row for row in rows if row.run == name]) for name in names],
        "figure": data_uri(drawing.svg, "image/svg+xml"),
        "across": across,
    }
    if across:
        written.append(write(folder / "suite.json", json.dumps(to_json(across), indent=1, allow_nan=False) + "\n"))
    written.append(write(folder / "suite.md", MARKDOWN.get_template("suite.md.j2").render(values)))
    written.append(write(folder / "suite.tex", LATEX.get_template("suite.tex.j2").render(values)))
    for name, is_index in (("suite.html", False), ("index.html", True)):
        page = PAGES.get_template("suite.html.j2").render(values, is_index=is_index)
        written.append(write(folder / name, page))
    return written


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with durably(path) as temporary:
        # A name that is not UTF-8 holds surrogates, which no encoding takes: written as \udcXX.
        temporary.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
    return path


def _slugs(names: Iterable[str]) -> list[str]:
    """Names for files: lower-case ASCII letters, digits and hyphens, each once."""
    slugs: list[str] = []
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "run"
        slug, number = stem, 2
        while slug in slugs:
            slug, number = f"{stem}-{number}", number + 1
        slugs.append(slug)
    return slugs


def _anchors_of(evaluation: Evaluation, kind: str) -> list[Anchor]:
    """The published figures of one kind, the highest first."""
    return sorted((anchor for anchor in evaluation.anchors if anchor.kind == kind), key=lambda anchor: -anchor.value)


def _intervals_in_words(scores: Scores, unit: str) -> str:
    """How the intervals of the headlines were made, of images or clips."""
    how = scores.bootstrap
    drawn = "subject" if how.unit == "subject" else unit
    words = {
        "wilson": "Wilson's score interval",
        "exact": f"the exact interval of as many {unit}s as there are subjects, {how.units:,}",
        "bootstrap": f"bootstrap of {how.resamples:,} resamples by {drawn}, seed {how.seed}",
    }
    titles = {key: title for key, title, _, _ in HEADLINES}
    by_method: dict[str, dict[str, None]] = {}
    for key, figure in [*scores.all.items(), *scores.scored.items()]:
        if figure is not None and figure.method is not None:
            by_method.setdefault(figure.method, {})[titles[key]] = None
    made = [f"{words[method]} ({', '.join(names)})" for method, names in by_method.items()]
    return f"{round(100 * how.level)} % intervals: {'; '.join(made) or 'none could be had'}"


# ---- the suite's table ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _SuiteRow:
    dataset: DatasetSummary
    folder: str
    span: int
    """How many rows the set has; 0 in all but its first."""
    run: str
    n: int
    n_missed: int
    figures: list[Interval | None]
    """One for each of _SUITE_HEADLINES."""
    published: list[Anchor | None]
    """The highest published figure on the same images, of each kind that the suite has."""


@dataclass(frozen=True, slots=True)
class _SuiteMean:
    run: str
    num_sets: int
    values: list[float | None]


def _suite_rows(evaluation: Evaluation, folder: str, kinds: Iterable[str]) -> list[_SuiteRow]:
    published = [next(iter(_anchors_of(evaluation, kind)), None) for kind in kinds]
    return [
        _SuiteRow(
            dataset=evaluation.dataset,
            folder=folder,
            span=0 if number else len(evaluation.runs),
            run=run.name,
            n=run.scores.n,
            n_missed=run.scores.n_missed,
            figures=[
                (run.scores.all if over == "all" else run.scores.scored)[key] for over, key, _ in _SUITE_HEADLINES
            ],
            published=published,
        )
        for number, run in enumerate(evaluation.runs)
    ]


def _suite_mean(run: str, rows: Sequence[_SuiteRow]) -> _SuiteMean:
    columns = zip(*(row.figures for row in rows), strict=True)
    return _SuiteMean(run, len(rows), [mean_over_sets(column) for column in columns])


# ---- a run's section --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Illustration:
    kind: str
    title: str
    caption: str
    drawing: figures.Drawing
    png: str
    """The file's name in the report's folder."""
    svg: str

    @classmethod
    def of(cls, kind: str, title: str, caption: str, drawing: figures.Drawing, slug: str) -> Illustration:
        png, svg = (f"figures/{kind}-{slug}.{suffix}" for suffix in ("png", "svg"))
        return cls(kind=kind, title=title, caption=caption, drawing=drawing, png=png, svg=svg)

    @property
    def uri(self) -> str:
        return data_uri(self.drawing.svg, "image/svg+xml")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """What the report shows of a run."""

    run: Run
    slug: str
    figures: list[Illustration]
    thumbnails: list[str | None]
    """Of the run's mistakes."""
    matching: str
    """In words."""
    unfit: list[Unfit]
    """What did not match."""


def _section(run: Run, slug: str, unit: str, *, images: bool) -> _Section:
    with picture_processes() as processes:
        thumbnails = [thumbnail(each.path, each.box, processes) if images else None for each in run.mistakes]
    return _Section(
        run=run,
        slug=slug,
        figures=figures_of(run.scores, slug),
        thumbnails=thumbnails,
        matching=matching_in_words(run.matching, run.scores.n, unit),
        unfit=unfit(run.matching, unit),
    )


def figures_of(scores: Scores, slug: str) -> list[Illustration]:
    drawn = [
        ("confusion", "Confusion matrix", _confusion_caption(scores), figures.confusion(scores)),
        ("per_class", "Precision, recall and F1 by class", _per_class_caption(scores), figures.per_class(scores)),
    ]
    if any(bin_.n for bin_ in scores.reliability):
        drawn.append(("reliability", "Reliability", _reliability_caption(scores), figures.reliability(scores)))
    return [Illustration.of(kind, title, caption, drawing, slug) for kind, title, caption, drawing in drawn]


def _confusion_caption(scores: Scores) -> str:
    """The three largest shares off the diagonal, in words."""
    confusion = scores.confusion
    errors = sorted(
        (
            (share, f"{label} {'named ' + name if name in confusion.rows else name}", count)
            for label, counts, shares in zip(confusion.rows, confusion.counts, confusion.shares, strict=True)
            for name, count, share in zip(confusion.columns, counts, shares, strict=True)
            if count and name != label
        ),
        reverse=True,
    )
    worst = "; ".join(f"{what} ({percent(share)} %, {count:,})" for share, what, count in errors[:3])
    return f"Most often wrong: {worst}." if worst else "None is named wrongly."


def _per_class_caption(scores: Scores) -> str:
    recalls = [(row.recall, row.class_) for row in scores.per_class if row.recall is not None]
    (lowest, worst), (highest, best) = (choose(recalls, key=lambda pair: pair[0]) for choose in (min, max))
    return f"Recall is highest for {best} ({percent(highest)} %) and lowest for {worst} ({percent(lowest)} %)."


def _reliability_caption(scores: Scores) -> str:
    every = calibration(scores.reliability)
    verdict = "more sure than right" if every.confidence > every.accuracy else "less sure than right"
    return (
        f"Mean confidence {percent(every.confidence)} %, accuracy {percent(every.accuracy)} % over the "
        f"{every.n:,} scored: on average {verdict}."
    )
