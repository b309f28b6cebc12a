"""An evaluation becomes a folder that a person can read, check and print: JSON, Markdown, one HTML page, figures.

This room knows how things are said and shown; it computes no metric, and reads no picture but for a thumbnail.
Fact to know: a page asks for nothing. Style, figures and thumbnails are inside it, and its content security policy
forbids the browser to fetch anything, whatever names and remarks it holds.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from motivnet_cli.durable import durably
from motivnet_cli.report import figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

from motivnet_cli.report.pages import LATEX, MARKDOWN, PAGES, data_uri, percent, thumbnail

MAX_MISTAKES = 24
"""Mistakes shown of a run; metrics.json has all that were given."""
MAX_NAMES = 100
"""Missed images named in the page."""
_HEADLINES = (
    ("accuracy", "Accuracy", "share of the images named rightly (WAR)", "percent"),
    ("uar", "UAR", "mean of the classes' recalls", "percent"),
    ("macro_f1", "Macro-F1", "mean of the classes' F1", "percent"),
    ("weighted_f1", "Weighted F1", "mean of the classes' F1, by support", "percent"),
    ("top2_accuracy", "Top-2 accuracy", "label among the two likeliest", "percent"),
    ("kappa", "Cohen's kappa", "agreement beyond chance, at most 1", "plain"),
    ("auroc_macro", "AUROC", "mean over the classes, one against the rest, at most 1", "plain"),
    ("ece", "Calibration error", "ECE over 15 bins; lower is better", "percent"),
    ("brier", "Brier score", "0 to 2; lower is better", "plain"),
)
_SUITE_HEADLINES = (
    ("all", "accuracy", "Accuracy"),
    ("all", "uar", "UAR"),
    ("all", "macro_f1", "Macro-F1"),
    ("scored", "accuracy", "Accuracy, scored only"),
)
_KINDS = (
    ("cross_set", "Trained on other sets"),
    ("in_set", "Trained on this set"),
)


def write_report(
    evaluation: Mapping[str, Any],
    folder: Path,
    *,
    images: bool,
) -> list[Path]:
    """Write the report of one labelled set, each file whole or not at all.

    Args:
        evaluation: What metrics.json holds; `anchors` are in percent, scores from 0 to 1.
        folder: Made if it is missing; files of an earlier report are replaced.
        images: Whether the page shows the most confident mistakes as thumbnails of the local files that `mistakes`
            names in `path`, cut to `box` (x1 y1 x2 y2 in pixels) where one is given.

    Returns:
        The files: metrics.json, figures/{confusion,per_class,reliability}-<run>.{png,svg}, report.md, report.html.
        A run without probabilities has no reliability figure.
    """
    written = [_write(folder / "metrics.json", json.dumps(evaluation, indent=1, allow_nan=False) + "\n")]
    runs = []
    for run, slug in zip(evaluation["runs"], _slugs(run["name"] for run in evaluation["runs"]), strict=True):
        drawn = _figures(run["scores"], slug)
        for figure in drawn:
            for kind in ("png", "svg"):
                written.append(_write(folder / figure[kind], figure["files"][kind]))
        mistakes = [
            {**mistake, "thumbnail": thumbnail(mistake) if images else None}
            for mistake in run["mistakes"][:MAX_MISTAKES]
        ]
        runs.append({**run, "slug": slug, "figures": drawn, "mistakes": mistakes})
    values = {
        "evaluation": evaluation,
        "dataset": evaluation["dataset"],
        "runs": runs,
        "images": images,
        "headlines": _HEADLINES,
        "anchors": [
            (title, sorted((a for a in evaluation["anchors"] if a["kind"] == kind), key=lambda a: -a["value"]))
            for kind, title in _KINDS
        ],
        "max_names": MAX_NAMES,
    }
    written.append(_write(folder / "report.md", MARKDOWN.get_template("report.md.j2").render(values)))
    written.append(_write(folder / "report.html", PAGES.get_template("report.html.j2").render(values)))
    return written


def write_suite(
    evaluations: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    images: bool,
) -> list[Path]:
    """Write each set's report in a folder of its own, and the table over all sets.

    Args:
        evaluations: As for `write_report`. The mean at the foot is over sets, each counting once, for each run's name.
        images: As for `write_report`.

    Returns:
        The files of every report, figures/accuracy.{png,svg}, the table alone as suite.md, suite.tex and suite.html,
        and index.html, which holds the table and leads to the reports.
    """
    written = []
    rows = []
    slugs = _slugs(evaluation["dataset"]["name"] for evaluation in evaluations)
    for evaluation, slug in zip(evaluations, slugs, strict=True):
        written += write_report(evaluation, folder / slug, images=images)
        rows += [
            {
                "dataset": evaluation["dataset"],
                "folder": slug,
                "span": 0 if number else len(evaluation["runs"]),
                "run": run["name"],
                "n": run["scores"]["n"],
                "n_missed": run["scores"]["n_missed"],
                "values": [run["scores"][over][key] for over, key, _ in _SUITE_HEADLINES],
                "published": [_highest(evaluation["anchors"], kind) for kind, _ in _KINDS],
            }
            for number, run in enumerate(evaluation["runs"])
        ]
    names = list(dict.fromkeys(row["run"] for row in rows))
    drawn = figures.accuracy_by_set(slugs, [[_accuracy(rows, slug, name) for slug in slugs] for name in names])
    for kind in ("png", "svg"):
        written.append(_write(folder / "figures" / f"accuracy.{kind}", drawn[kind]))
    values = {
        "evaluations": list(zip(slugs, evaluations, strict=True)),
        "tool": evaluations[0]["tool"],
        "command": evaluations[0]["command"],
        "columns": [title for _, _, title in _SUITE_HEADLINES],
        "rows": rows,
        "names": names,
        "means": [_mean(name, [row for row in rows if row["run"] == name]) for name in names],
        "figure": data_uri(drawn["svg"], "image/svg+xml"),
    }
    written.append(_write(folder / "suite.md", MARKDOWN.get_template("suite.md.j2").render(values)))
    written.append(_write(folder / "suite.tex", LATEX.get_template("suite.tex.j2").render(values)))
    for name, whole in (("suite.html", False), ("index.html", True)):
        page = PAGES.get_template("suite.html.j2").render(values, whole=whole)
        written.append(_write(folder / name, page))
    return written


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with durably(path) as temporary:
        # A name that is not UTF-8 holds surrogates, which no encoding takes: shown as \udcXX.
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


def _figures(scores: figures.Scores, slug: str) -> list[dict[str, Any]]:
    drawn = [
        ("confusion", "Confusion matrix", _confusion_caption(scores), figures.confusion(scores)),
        ("per_class", "Precision, recall and F1 by class", _per_class_caption(scores), figures.per_class(scores)),
    ]
    if any(row["n"] for row in scores["reliability"] or ()):
        drawn.append(("reliability", "Reliability", _reliability_caption(scores), figures.reliability(scores)))
    return [
        {
            "kind": kind,
            "title": title,
            "caption": caption,
            "files": files,
            "uri": data_uri(files["svg"], "image/svg+xml"),
            **{ending: f"figures/{kind}-{slug}.{ending}" for ending in ("png", "svg")},
        }
        for kind, title, caption, files in drawn
    ]


def _confusion_caption(scores: figures.Scores) -> str:
    """What the matrix shows, in words: its three largest shares off the diagonal."""
    rows, columns, counts = (scores["confusion"][key] for key in ("rows", "columns", "counts"))
    shares = sorted(
        (
            (count / sum(counts[row]), f"{label} {'named ' + name if name in rows else name}", count)
            for row, label in enumerate(rows)
            for name, count in zip(columns, counts[row], strict=True)
            if count and name != label
        ),
        reverse=True,
    )
    worst = "; ".join(f"{what} ({percent(share)} %, {count:,})" for share, what, count in shares[:3])
    return f"Most often wrong: {worst}." if worst else "Every image is named rightly."


def _per_class_caption(scores: figures.Scores) -> str:
    known = [row for row in scores["per_class"] if row["support"]]
    worst, best = (choose(known, key=lambda row: row["recall"]) for choose in (min, max))
    return (
        f"Recall is highest for {best['class']} ({percent(best['recall'])} %) "
        f"and lowest for {worst['class']} ({percent(worst['recall'])} %)."
    )


def _reliability_caption(scores: figures.Scores) -> str:
    bins = [row for row in scores["reliability"] if row["n"]]
    total = sum(row["n"] for row in bins)
    confidence, accuracy = (sum(row["n"] * row[key] for row in bins) / total for key in ("confidence", "accuracy"))
    verdict = "more sure than right" if confidence > accuracy else "less sure than right"
    return (
        f"Mean confidence {percent(confidence)} %, accuracy {percent(accuracy)} % over the {total:,} scored images: "
        f"on average {verdict}."
    )


def _highest(anchors: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    return max((anchor for anchor in anchors if anchor["kind"] == kind), key=lambda a: a["value"], default=None)


def _accuracy(rows: Sequence[Mapping[str, Any]], folder: str, run: str) -> dict[str, float] | None:
    return next((row["values"][0] for row in rows if (row["folder"], row["run"]) == (folder, run)), None)


def _mean(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The unweighted means of a run's headlines over its sets; None where a set lacks one."""
    columns = zip(*(row["values"] for row in rows), strict=True)
    means = [
        None if any(cell is None for cell in column) else sum(cell["value"] for cell in column) / len(column)
        for column in columns
    ]
    return {"run": name, "sets": len(rows), "values": means}
