"""A training as files to read, check and print: metrics.json, Markdown, one HTML page, figures, and a model card.

No metric is computed here. Pages load nothing, as those of evaluations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.evaluation.results import to_json
from motivnet_cli.evaluation.scoring import MAX_MISTAKES
from motivnet_cli.report import figures
from motivnet_cli.report.evaluation import HEADLINES, Illustration, figures_of, write
from motivnet_cli.report.pages import MARKDOWN, PAGES
from motivnet_cli.weights.training_record import SHARES

if TYPE_CHECKING:
    from motivnet_cli.evaluation.results import Interval, Scores
    from motivnet_cli.training.result import Judged
    from motivnet_cli.weights.store import StoredModel
    from motivnet_cli.weights.training_record import Figure, TrainingRecord

SCHEMA_VERSION = 1
"""Of metrics.json."""
CARD_FILE = "model-card.md"
_RATE = "lr_"
_OF_STUDENT = tuple(
    ("accuracy", SHARES["agreement"], "share named as the teacher names it", "percent") if row[0] == "accuracy" else row
    for row in HEADLINES
)
_PAPERS = {
    "motivnet": """\
@article{medicharla2025motivnet,
  author = {Medicharla, R. and Yilmaz, A.},
  title = {{MotivNet}: Evolving {Meta-Sapiens} into an Emotionally Intelligent Foundation Model},
  journal = {arXiv preprint arXiv:2512.24231},
  year = {2025}
}""",
    "sapiens": """\
@article{khirodkar2024sapiens,
  author = {Khirodkar, Rawal and others},
  title = {Sapiens: Foundation for Human Vision Models},
  journal = {arXiv preprint arXiv:2408.12569},
  year = {2024}
}""",
}

_OTHERS = (
    ("chance_accuracy", "Accuracy by chance", "of always naming the most frequent class", "percent"),
    ("chance_uar", "UAR by chance", "of the same", "percent"),
    ("always", "Agreement by chance", "of always answering the teacher's most frequent class", "percent"),
    ("kl", "KL divergence", "of the student from its teacher, in nats; lower is better", "plain"),
    ("ece_uncalibrated", "Calibration error, before", "before the temperature; lower is better", "percent"),
    ("brier_uncalibrated", "Brier score, before", "the same; lower is better", "plain"),
    ("nll_uncalibrated", "NLL, before", "the same; lower is better", "plain"),
    ("loss", "Loss", "that the epoch was chosen by; lower is better", "plain"),
)
"""Figures of a record that `Scores` does not have."""


def write_training(model: StoredModel, judged: Judged, folder: Path) -> list[Path]:
    """Write what is to be said of a training, each file whole or not at all.

    Args:
        model: What was stored, with its record.
        judged: The answers that the record's figures are of.
        folder: Made if it is missing; files of an earlier training are replaced.

    Returns:
        The files: metrics.json, figures/*.{png,svg}, report.md, report.html and model-card.md. The card is written
        beside the stored weights, too.
    """
    record = model.training
    assert record is not None, f"{model.name} was not trained here"
    scores, recalls, mistakes = judged.scores(), judged.recalls(), _mistakes(judged)
    content = {
        "schema_version": SCHEMA_VERSION,
        "model": model.name,
        "sha256": model.sha256,
        "training": record.to_json(),
        "validation": {"scores": scores, "recall": recalls, "mistakes": mistakes},
    }
    written = [write(folder / "metrics.json", json.dumps(to_json(content), indent=1, allow_nan=False) + "\n")]
    illustrations = [*_curves(record), *figures_of(scores, "validation")]
    for each in illustrations:
        written += [write(folder / each.png, each.drawing.png), write(folder / each.svg, each.drawing.svg)]
    values = {
        "model": model,
        "record": record,
        "scores": scores,
        "recalls": recalls,
        "mistakes": mistakes,
        "label": "the teacher's answer" if record.kind == "student" else "label",
        "curves": [each for each in illustrations if each.kind not in ("confusion", "per_class", "reliability")],
        "figures": [each for each in illustrations if each.kind in ("confusion", "per_class", "reliability")],
        "rows": _rows(record, scores),
        "shares": SHARES,
        "counts": _counts(record),
        "papers": _papers(model, record),
    }
    written.append(write(folder / "report.md", MARKDOWN.get_template("training.md.j2").render(values)))
    written.append(write(folder / "report.html", PAGES.get_template("training.html.j2").render(values)))
    card = MARKDOWN.get_template("model-card.md.j2").render(values)
    write(Path(model.path).with_name(CARD_FILE), card)
    return [*written, write(folder / CARD_FILE, card)]


def _rows(record: TrainingRecord, scores: Scores) -> list[tuple[str, str, str, Figure | Interval]]:
    """Title, meaning and form of each figure that there is, and the figure."""
    headlines = _OF_STUDENT if record.kind == "student" else HEADLINES
    figures_by_key = {**record.validation.figures, **scores.scored}
    return [
        (title, meaning, form, figure)
        for key, title, meaning, form in (*headlines, *_OTHERS)
        if (figure := figures_by_key.get(key)) is not None
    ]


def _counts(record: TrainingRecord) -> dict[str, list[int]]:
    """For each class its faces in the splits."""
    splits = record.data.counts.values()
    names = dict.fromkeys([*record.classes, *(name for split in splits for name in split)])
    return {name: [split.get(name, 0) for split in splits] for name in names}


def _papers(model: StoredModel, record: TrainingRecord) -> list[str]:
    """Of the networks that it is made of, as far as their names tell, in BibTeX."""
    sources = " ".join([model.architecture, *(parent.name for parent in record.parents)])
    return [paper for name, paper in _PAPERS.items() if name in sources or "motivnet" in sources]


@dataclass(frozen=True, slots=True)
class _Mistake:
    name: str
    label: str
    predicted: str
    confidence: float


def _mistakes(judged: Judged) -> list[_Mistake]:
    """The wrong answers with the highest probability."""
    predicted, confidence = judged.probabilities.argmax(axis=1), judged.probabilities.max(axis=1)  # [N]
    wrong = np.flatnonzero(predicted != judged.labels)
    return [
        _Mistake(
            judged.names[index],
            judged.classes[judged.labels[index]],
            judged.classes[predicted[index]],
            round(float(confidence[index]), 4),
        )
        for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES].tolist()
    ]


def _curves(record: TrainingRecord) -> list[Illustration]:
    """How the figures went over the epochs, or over the number of faces that were learned from."""
    history, best = record.history, record.best_epoch
    keys = dict.fromkeys(key for row in history for key in row if key != "epoch")
    names_of = {
        "loss": {key: key.removesuffix("_loss") for key in keys if key.endswith("_loss")},
        "scores": {key: SHARES[name] for key in keys if (name := key.removeprefix("val_")) in SHARES},
        "rates": {key: key.removeprefix(_RATE) for key in keys if key.startswith(_RATE)},
    }
    titles = {
        "loss": ("Loss", "Mean of the loss over the faces that are learned from, and over those of the validation."),
        "scores": ("Validation", "Over the validation faces."),
        "rates": ("Learning rates", "Of each group of parameters, at the end of the epoch, on a logarithmic axis."),
    }
    axes: dict[str, figures.CurveAxis] = {"loss": "plain", "scores": "share", "rates": "log"}
    epochs = [int(row["epoch"] or 0) for row in history]
    found = []
    for kind, names in names_of.items():
        if names:
            # On a logarithmic axis a rate of 0, as of frozen parameters, has no place.
            series = {
                title: [value if kind != "rates" or value else None for value in (row.get(key) for row in history)]
                for key, title in names.items()
            }
            drawing = figures.curves(epochs, series, axis=axes[kind], best=best)
            found.append(Illustration.of(kind, *titles[kind], drawing, "training"))
    if record.few_shot:
        few = {
            title: [
                (figure.value, figure.low, figure.high) if (figure := row.figures.get(key)) else (None, None, None)
                for row in record.few_shot
            ]
            for key, title in SHARES.items()
            if any(key in row.figures for row in record.few_shot)
        }
        caption = "Mean over draws of so many faces of each class, with its interval."
        drawing = figures.few_shot([row.shots for row in record.few_shot], few)
        found.append(Illustration.of("few_shot", "From few faces", caption, drawing, "training"))
    return found
