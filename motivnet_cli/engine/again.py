"""Rows of an output, computed again from their inputs: whether what is stored is what the run's settings give.

Inputs that are gone or have changed are counted, and are no difference.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from motivnet_cli import __version__
from motivnet_cli.config import FaceConfig, LoaderConfig, ModelConfig, VideoConfig
from motivnet_cli.engine.found_again import find_items, is_changed, pictures_of, recorded
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.engine.work import load_network, make_predictor
from motivnet_cli.errors import ConfigError, InputError, first_line
from motivnet_cli.faces.quality import quality_of
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.pillow import decoding_settings
from motivnet_cli.output.findings import Findings
from motivnet_cli.output.read import read_record
from motivnet_cli.output.tables import SCHEMA_VERSION, measured
from motivnet_cli.output.verify_sample import sample_faces
from motivnet_cli.records import BOX_COLUMNS, FLOAT16_STEP, Batch, Crop, Cursor, Face, Item, Position

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.config import Precision
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.output.findings import CheckResult
    from motivnet_cli.output.verify_sample import SampledFace
    from motivnet_cli.records import Frame, GivenFace, RunRecord
    from motivnet_cli.weights.load import LoadedModel

CLEAR_LEAD = 0.1
"""In bf16, fp16 and int8, an emotion that is more probable than another by less than this may give way to it."""
_RELATIVE, _ABSOLUTE = 1e-5, 1e-3
"""Within the larger of the two, boxes, scores and measures are the same: another machine adds up in another order."""
_REASONS = {
    **dict.fromkeys(("not_found", "broken_link", "unreachable"), "were not found"),
    "changed": "have changed",
}
"""Of inputs that are no longer what or where they were, by error type: that is no fault of the output."""
_WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """Which rows of an output are computed again, and with what."""

    size: int
    """Rows."""
    seed: int
    inputs_from: str | None = None
    """The folder below which the inputs lie by their names; None looks where the run had them."""
    model: ModelConfig = ModelConfig()
    """Of it weights, store, device and batch size count; all else is the record's."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"--sample takes at least 1 row, got {self.size}")
        if self.inputs_from is not None and not Path(self.inputs_from).is_dir():
            raise ConfigError(f"--inputs-from takes a folder, and there is none at {self.inputs_from!r}")


def check_sample(path: str, config: SampleConfig) -> CheckResult:
    """Compute some rows of a whole output again, and compare them as docs/output.md says how exact rows are.

    Raises:
        ConfigError: The run's version or model is another than here, or the output is gone.
        WeightsError: The model's weights are not here.
    """
    record = read_record(path)
    settings = record.get("settings", {})
    before, now = (settings.get("version"), record.get("schema_version")), (__version__, SCHEMA_VERSION)
    if before != now:
        theirs, ours = (f"{version} (schema {schema})" for version, schema in (before, now))
        raise ConfigError(
            f"{path!r} was written by motivnet {theirs}, and this is {ours}, whose rows may be others: take --sample "
            "with that version, or leave it out"
        )
    model, predictor = _network(record, config)
    faces = sample_faces(path, model.classes, size=config.size, seed=config.seed)
    again = _Again(record, model, predictor)
    with decoding_settings():
        inputs = (face.input for face in faces)
        again.run(faces, find_items(path, inputs, settings, inputs_from=config.inputs_from))
    return again.result(len(faces), config)


def _network(record: RunRecord, config: SampleConfig) -> tuple[LoadedModel, Predictor]:
    """The network of the run.

    Raises:
        ConfigError: The weights here are others.
    """
    settings = record.get("settings", {})
    name = str(settings.get("model.name"))
    asked = replace(
        config.model,
        name=None if config.model.weights is not None else name,
        recipe=cast("str | None", settings.get("model.recipe")),
        flip=cast("bool | None", settings.get("model.flip")),
        precision=cast("Precision", settings.get("model.precision", "auto")),
    )
    if asked.weights is None and Path(name).suffix in _WEIGHTS_SUFFIXES:
        raise ConfigError(f"the run took its weights from a file called {name!r}: give it with --weights")
    model = load_network(asked)
    if model.weights_sha256 != record.get("weights_sha256"):
        raise ConfigError(
            f"the weights of {model.card.name} here have the hash {model.weights_sha256[:12]}, and the run's had "
            f"{str(record.get('weights_sha256'))[:12]}: give the run's file with --weights"
        )
    return model, make_predictor(model, asked)


# ---- the rows again -----------------------------------------------------------------------------------------


class _Again:
    """Computes rows again, and gathers where they differ."""

    def __init__(self, record: RunRecord, model: LoadedModel, predictor: Predictor) -> None:
        settings = record.get("settings", {})
        self._model = model
        self._predictor = predictor
        self._preparer = Preparer(
            model,
            recorded(FaceConfig, settings, "faces"),
            recorded(VideoConfig, settings, "video"),
            recorded(LoaderConfig, settings, "loader"),
        )
        self._tolerance = model.card.batch_tolerance if record.get("precision") == "fp32" else None
        self._findings = Findings()
        self._not_run: Counter[str] = Counter()
        self._cells = CellReader()
        self._waiting: deque[SampledFace] = deque()
        """Whose crops are in batches that the network has not answered."""

    def run(self, faces: Sequence[SampledFace], items: Mapping[str, Item]) -> None:
        """Go through the rows, input by input."""
        try:
            for batch, prediction in self._predictor.run(self._batches(faces, items)):
                for number in range(len(batch.crops)):
                    face = self._waiting.popleft()
                    assert prediction is not None, "a batch with faces has a prediction"
                    self._compare(face, prediction.probabilities[number], prediction.embeddings[number])
        finally:
            self._cells.close()
            self._preparer.close()

    def result(self, num_faces: int, config: SampleConfig) -> CheckResult:
        """What was found, as one check."""
        num_not_run = self._not_run.total()
        note = f"{num_faces - num_not_run} rows were computed again (seed {config.seed})"
        if num_not_run:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self._not_run.most_common())
            note += f", {num_not_run} could not be: {reasons}"
        if self._tolerance is None and num_faces > num_not_run:
            note += "; of the network's numbers only clear emotions were compared: limits are for fp32"
        if num_faces == num_not_run:
            self._findings.skip("sample", note)
        self._findings.note("sample", note)
        return next(result for result in self._findings.results() if result.check == "sample")

    def _batches(self, faces: Iterable[SampledFace], items: Mapping[str, Item]) -> Iterator[Batch]:
        crops = self._crops(faces, items)
        while taken := tuple(itertools.islice(crops, self._predictor.batch_size)):
            yield Batch(taken, (), Cursor(Position(0)))

    def _crops(self, faces: Iterable[SampledFace], items: Mapping[str, Item]) -> Iterator[Crop]:
        for name, group in itertools.groupby(faces, key=lambda face: face.input.archive or face.input.name):
            rows = list(group)
            item = items.get(name)
            if item is None:
                self._not_run["were not found"] += len(rows)
                continue
            try:
                has_changed = is_changed(item, rows[0].input)
            except OSError:
                self._not_run["were not found"] += len(rows)
                continue
            if has_changed:
                self._not_run["have changed"] += len(rows)
            else:
                yield from self._crops_of(item, rows)

    def _crops_of(self, item: Item, rows: list[SampledFace]) -> Iterator[Crop]:
        """The crops of the rows of one item; if it cannot be read, or has no such face, that is a difference."""
        left = {(row.input.name, row.frame, row.number): row for row in rows}
        try:
            names = {row.input.name for row in rows}
            every = any(row.source == "given" for row in rows)
            for name, frame, given in pictures_of(item, names, self._preparer, self._cells, every_frame=every):
                here = [row for row in left.values() if (row.input.name, row.frame) == (name, frame.index)]
                yield from self._crops_in(frame, here, given)
                for row in here:
                    del left[row.input.name, row.frame, row.number]
                if not left:
                    break
        except OSError:
            self._not_run["were not found"] += len(left)
            return
        except InputError as error:
            self._cannot_be_read(left.values(), error)
            return
        for row in left.values():
            self._findings.fault("sample", row.where, "is not in its input now")

    def _cannot_be_read(self, rows: Collection[SampledFace], error: InputError) -> None:
        reason = _REASONS.get(error.error_type)
        if reason is not None:
            self._not_run[reason] += len(rows)
            return
        for row in rows:
            self._findings.fault("sample", row.where, f"cannot be read now: {first_line(error)}")

    def _crops_in(
        self, frame: Frame, rows: Sequence[SampledFace], given: tuple[GivenFace, ...] | None
    ) -> Iterator[Crop]:
        if not rows:
            return
        if self._preparer.goes_by_faces and given is None and any(row.source == "given" for row in rows):
            self._not_run["are of pictures that were corrupted by the sizes of boxes that are not known"] += len(rows)
            return
        frame = self._preparer.corrupted(frame, given)
        found = [face for face, _ in self._preparer.find(frame, given).faces] if self._finds(rows, given) else []
        for row in rows:
            face = found[row.number] if row.number < len(found) else None
            if row.source == "given" and given is None:  # the manifest is not known: its box is stored
                face = Face(row.box, "given")
            wrong = "no such face is found" if face is None else _other_place(row, face, frame)
            if face is None or wrong:
                self._findings.fault("sample", row.where, wrong)
                continue
            self._waiting.append(row)
            size = frame.rgb.shape[1], frame.rgb.shape[0]
            pixels = self._preparer.crop(frame, face)
            yield Crop(Position(0), row.input.name, face, row.number, pixels, frame.index, frame.time_s, (), size)

    def _finds(self, rows: Sequence[SampledFace], given: tuple[GivenFace, ...] | None) -> bool:
        return given is not None or any(row.source != "given" for row in rows)

    def _compare(self, row: SampledFace, probabilities: NDArray[np.float32], embedding: NDArray[np.float32]) -> None:
        for wrong in (self._other_emotion(row, probabilities), self._other_embedding(row, embedding)):
            if wrong:
                self._findings.fault("sample", row.where, wrong)

    def _other_emotion(self, row: SampledFace, probabilities: NDArray[np.float32]) -> str:
        if not len(probabilities):
            return ""
        now = self._model.classes[int(probabilities.argmax())]
        if self._tolerance is None:
            lead = row.probabilities.max() - row.probabilities[probabilities.argmax()]
            return "" if lead < CLEAR_LEAD else f"the emotion is {row.emotion}, and now {now}"
        difference = float(abs(probabilities.astype(np.float64) - row.probabilities).max())
        if difference <= self._tolerance:
            return ""
        return f"a probability differs by {difference:.1e}, more than {self._tolerance:g}: {row.emotion}, and now {now}"

    def _other_embedding(self, row: SampledFace, embedding: NDArray[np.float32]) -> str:
        stored = row.embedding
        if stored is None or self._tolerance is None:
            return ""
        step = FLOAT16_STEP if stored.dtype == np.float16 else 0.0
        before, now = stored.astype(np.float64), embedding.astype(stored.dtype).astype(np.float64)
        if before.shape != now.shape:
            return f"an embedding of {len(before)} numbers, and now {len(now)}"
        excess = abs(now - before) - (self._tolerance + (self._tolerance + step) * abs(now))
        return "" if (excess <= 0).all() else f"the embedding differs by up to {float(abs(now - before).max()):.1e}"


def _other_place(row: SampledFace, face: Face, frame: Frame) -> str:
    """Where a face lies, or how it is seen, otherwise than its row says."""
    size = frame.rgb.shape[1], frame.rgb.shape[0]
    measures = measured(face, quality_of(frame.rgb, face))
    exact = {
        "face_source": (row.source, face.source),
        "picture size": (row.picture_size, size),
        "time_s": (row.time_s, frame.time_s),
    }
    close = {
        **dict(zip(BOX_COLUMNS, zip(row.box, face.box, strict=True), strict=True)),
        "detection_score": (row.score, face.score),
        **{name: (value, measures[name]) for name, value in row.measured.items()},
    }
    differing = [(name, *pair) for name, pair in exact.items() if pair[0] != pair[1]]
    differing += [(name, *pair) for name, pair in close.items() if not _are_close(*pair)]
    return next((f"{name} is {before}, and now {now}" for name, before, now in differing), "")


def _are_close(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is now
    return math.isclose(before, now, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
