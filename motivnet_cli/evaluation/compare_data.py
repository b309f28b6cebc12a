"""Two sets of pictures under one network, in all and within each predicted emotion.

The mathematics is in `frechet` and `two_samples`.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.embeddings import read_face_batches
from motivnet_cli.evaluation.frechet import (
    Gaussian,
    SelfDistance,
    frechet_distance,
    frechet_distance_of_rows,
    self_distance,
    self_distance_of_rows,
)
from motivnet_cli.evaluation.results import INLINE
from motivnet_cli.evaluation.sides import (
    DEFAULT_READING,
    Comparison,
    Reading,
    outputs_of,
    refuse_other_network,
    remark_on_unusable,
    runs_of,
    settings_of,
    side_of,
)
from motivnet_cli.evaluation.two_samples import LEVEL, Pool, Reservoir, deal, two_sample_tests
from motivnet_cli.records import PHASE, never, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from motivnet_cli.config import InputConfig, ModelConfig
    from motivnet_cli.evaluation.frechet import Moments
    from motivnet_cli.evaluation.two_samples import (
        Classifier,
        KernelInceptionDistance,
        Sample,
        TwoSample,
        TwoSampleTests,
    )
    from motivnet_cli.records import Progress

log = logging.getLogger(__name__)

SEED = 0
SELF_DRAWS = 5
"""Random parts of the pooled set behind a self-distance: 95 MB of sums for embeddings of 1,536."""
EMOTION_FACES = 50
"""Faces of an emotion that each side must have for a comparison within it."""
EMOTION_ROWS = 1000
"""Faces of an emotion and a side that are kept: 12 MB for embeddings of 1,536."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the two sides."""

    a: int
    b: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """The faces of each side that the two-sample tests look at, and the settings of the tests."""

    a: int
    b: int
    seed: int
    bandwidth: float
    neighbours: int
    permutations: int
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """How far two sets of embeddings are from each other."""

    n: Counts
    """Faces."""
    frechet_distance: float
    frechet_self_distance: SelfDistance | None
    """None where no random part of the pooled set leaves two faces on both sides."""
    mmd_squared: TwoSample
    kid: KernelInceptionDistance
    neighbour_overlap: TwoSample
    classifier: Classifier
    sample: SampleSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionShares:
    """The predicted emotions of the faces that are compared."""

    n: Mapping[str, Counts]
    """By emotion."""
    total_variation: float
    """Half the sum of the differences of the shares: 0 for the same shares, 1 for no emotion in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataComparison(Comparison):
    """How alike two sets of faces lie in the embedding space of one network."""

    n_inputs: Counts
    """Inputs that have such faces."""
    distances: Distances = field(metadata=INLINE)
    emotions: EmotionShares | None
    """None for a network without emotions."""
    by_emotion: Mapping[str, Distances]
    """Within each predicted emotion that has enough faces on both sides."""


def compare_data(
    a: InputConfig | str,
    b: InputConfig | str,
    *,
    work: Path,
    model: ModelConfig,
    reading: Reading = DEFAULT_READING,
    command: str = "",
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> DataComparison | None:
    """How alike two sets of faces lie in the embedding space of one network.

    Args:
        a: Inputs; or one name: a finished output of `annotate` with embeddings, else a folder, file or URL.
            Inputs are run into `work/a`, where the same call resumes.
        b: The same, run into `work/b`.
        model: Runs the sides that are not finished outputs.
        command: To be recorded.
        progress: Of the run of a, then of b.

    Returns:
        None when `stop` ended a run.

    Raises:
        ConfigError: A side has fewer than two faces or no embeddings, or the sides come from different networks.
        WeightsError: The network's weights are missing or damaged.
        OutputConflictError: The work folder holds runs of other settings or inputs.
    """
    outputs = outputs_of(runs_of(a, b, model, work), reading=reading, command=command, progress=progress, stop=stop)
    if outputs is None:
        return None
    refuse_other_network(*map(settings_of, outputs))
    faces_a, faces_b = (_summarise(output, number) for number, output in enumerate(outputs))
    n, n_inputs = Counts(faces_a.moments.n, faces_b.moments.n), Counts(faces_a.num_inputs, faces_b.num_inputs)
    log.info("comparing %d faces with %d", n.a, n.b, extra=PHASE)
    distances = _distances(
        n,
        frechet_distance(faces_a.moments, faces_b.moments),
        _self_distance(outputs, faces_a, faces_b),
        two_sample_tests(faces_a.sample, faces_b.sample, seed=SEED),
    )
    side_a, side_b = map(side_of, outputs)
    remarks = (
        *_remarks_on_sizes(distances, n_inputs, side_a.embedding_size),
        *_remarks_on_settings(outputs),
        *_remarks_on_shared(faces_a.sample, faces_b.sample),
        *_remarks_on_emotions(faces_a.emotions, faces_b.emotions),
        *remark_on_unusable(faces_a.num_unusable + faces_b.num_unusable),
    )
    return DataComparison(
        kind="data",
        command=command,
        remarks=remarks,
        a=side_a,
        b=side_b,
        n_inputs=n_inputs,
        distances=distances,
        emotions=_shares(faces_a.emotions, faces_b.emotions),
        by_emotion=dict(_within_emotions(faces_a.emotions, faces_b.emotions)),
    )


# ---- what is computed -------------------------------------------------------------------------------------


class _Faces(NamedTuple):
    """What is kept of a side's embeddings."""

    moments: Moments
    sample: Sample
    emotions: Mapping[str, Reservoir]
    """Of the faces of each predicted emotion."""
    num_inputs: int
    num_unusable: int
    """Faces that were left out for infinities or NaN."""


def _summarise(output: str, number: int) -> _Faces:
    """Read a side, a (0) or b (1)."""
    seed = (SEED, number)
    gaussian, sample, num_inputs, num_unusable = Gaussian(), Reservoir(seed=seed), 0, 0
    emotions: dict[str, Reservoir] = {}
    for batch in read_face_batches(output):
        gaussian.update(batch.embeddings)
        sample.update(batch.embeddings, batch.inputs)
        num_inputs = max(num_inputs, int(batch.inputs.max(initial=-1)) + 1)
        num_unusable += batch.num_unusable
        for emotion in sorted({each for each in batch.emotions if each is not None}):
            is_it = batch.emotions == emotion
            kept = emotions.setdefault(emotion, Reservoir(seed=seed, limit=EMOTION_ROWS))
            kept.update(batch.embeddings[is_it], batch.inputs[is_it])
    if gaussian.n < 2:
        raise ConfigError(
            f"comparing sets takes at least 2 faces on each side, and {output} holds {gaussian.n}: give more pictures, "
            "or look into its inputs table for why none was found"
        )
    return _Faces(gaussian.moments, sample.sample, emotions, num_inputs, num_unusable)


def _self_distance(outputs: Sequence[str], a: _Faces, b: _Faces) -> SelfDistance | None:
    """Read both sides again, dealing their inputs out to two parts with as many inputs as they have.

    Sums are kept of the part with fewer inputs alone; those of the other are what is left of all.
    """
    labels = deal(*sorted((a.num_inputs, b.num_inputs)), draws=SELF_DRAWS, seed=SEED)  # [draws, inputs of both]
    parts = [Gaussian() for _ in labels]
    first = 0
    for output, side in zip(outputs, (a, b), strict=True):
        for batch in read_face_batches(output):
            for label, part in zip(labels, parts, strict=True):
                part.update(batch.embeddings[label[first + batch.inputs]])
        first += side.num_inputs
    return self_distance(a.moments + b.moments, [part.moments if part.n else None for part in parts])


def _distances(n: Counts, frechet: float, itself: SelfDistance | None, tests: TwoSampleTests) -> Distances:
    return Distances(
        n=n,
        frechet_distance=frechet,
        frechet_self_distance=itself,
        mmd_squared=tests.mmd,
        kid=tests.kid,
        neighbour_overlap=tests.overlap,
        classifier=tests.classifier,
        sample=SampleSettings(
            a=tests.n_a,
            b=tests.n_b,
            seed=SEED,
            bandwidth=tests.bandwidth,
            neighbours=tests.neighbours,
            permutations=tests.permutations,
            level=LEVEL,
        ),
    )


def _counts(a: Mapping[str, Reservoir], b: Mapping[str, Reservoir]) -> dict[str, Counts]:
    """Faces of each emotion on both sides."""
    num_a, num_b = (Counter({name: kept.n for name, kept in side.items()}) for side in (a, b))
    return {name: Counts(num_a[name], num_b[name]) for name in sorted({*a, *b})}


def _shares(a: Mapping[str, Reservoir], b: Mapping[str, Reservoir]) -> EmotionShares | None:
    if not a or not b:
        return None
    counts = _counts(a, b)
    num_a, num_b = sum(each.a for each in counts.values()), sum(each.b for each in counts.values())
    variation = sum(abs(each.a / num_a - each.b / num_b) for each in counts.values()) / 2
    return EmotionShares(n=counts, total_variation=variation)


def _within_emotions(a: Mapping[str, Reservoir], b: Mapping[str, Reservoir]) -> Iterator[tuple[str, Distances]]:
    for name, n in _counts(a, b).items():
        if min(n.a, n.b) < EMOTION_FACES:
            continue
        log.info("comparing those of %s: %d with %d", name, n.a, n.b, extra=PHASE)
        one, other = a[name].sample, b[name].sample
        pool = Pool.of(one, other)
        itself = self_distance_of_rows(pool.rows, pool.labels(draws=SELF_DRAWS, seed=SEED))
        tests = two_sample_tests(one, other, seed=SEED)
        yield name, _distances(n, frechet_distance_of_rows(one.rows, other.rows), itself, tests)


# ---- what must be known of it -----------------------------------------------------------------------------


def _remarks_on_sizes(distances: Distances, n_inputs: Counts, embedding_size: int) -> Iterator[str]:
    has_self = distances.frechet_self_distance is not None
    if min(distances.n.a, distances.n.b) <= embedding_size:
        beside = ", so read it beside frechet_self_distance, which is of random parts of the same sizes"
        yield (
            f"a side has no more faces than an embedding has numbers ({embedding_size}): the Frechet distance is then "
            f"much too large{beside if has_self else ''}"
        )
    fewer, more = sorted((n_inputs.a, n_inputs.b))
    if fewer < 10 and (ways := math.comb(fewer + more, fewer)) < 1000:
        yield (
            f"the sides have {n_inputs.a} and {n_inputs.b} inputs with faces, and labels are dealt to whole inputs, in "
            f"{ways} ways: p-values cannot be small, and self-distances say little"
        )

    if not has_self:
        yield (
            "no random part with as many inputs as a side has leaves two faces on both sides, so that no self-distance "
            "says how much of the Frechet distance is due to the sizes: give pictures of more inputs"
        )


def _remarks_on_settings(outputs: Sequence[str]) -> Iterator[str]:
    a, b = map(settings_of, outputs)
    if differing := [
        key for key in a if (key.startswith("faces.") or key == "model.precision") and a[key] != b.get(key)
    ]:
        yield f"the faces of the two sides were found, cut or embedded differently ({', '.join(differing)})"


def _remarks_on_shared(a: Sample, b: Sample) -> Iterator[str]:
    in_a = {row.tobytes() for row in a.rows}
    if num_shared := sum(row.tobytes() in in_a for row in b.rows):
        yield (
            f"{num_shared:,} of the {len(b.rows):,} sampled faces of b have the same embedding as one of a: they are "
            "probably the same pictures, and make the sets look more alike than two samples of one kind do"
        )


def _remarks_on_emotions(a: Mapping[str, Reservoir], b: Mapping[str, Reservoir]) -> Iterator[str]:
    few = {name: n for name, n in _counts(a, b).items() if min(n.a, n.b) < EMOTION_FACES}
    if few:
        named = ", ".join(f"{name} ({n.a} and {n.b})" for name, n in few.items())
        yield f"emotions with fewer than {EMOTION_FACES} faces on a side have no distances of their own: {named}"
