"""Predictions against the votes of several annotators, in place of one label.

Nothing here knows of files or names: the arguments are arrays. Formulas are in docs/metrics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from scipy.special import entr, rel_entr

from motivnet_cli.evaluation.intervals import percentile
from motivnet_cli.evaluation.metrics import FLOOR, NUM_BINS, bin_of, calibration_error, ratio, reliability
from motivnet_cli.evaluation.results import SoftScores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.intervals import Units

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_ALL, _SCORED, _AGREEMENT, _CROSS_ENTROPY, _KL, _BINS = range(6)
"""Rows of the sums over images: their number, that of the scored ones, and of these the share of the votes for the
predicted class, and both losses; from the last on, of each bin the number, the sums of confidence, and of the share."""


def score_votes(
    shares: Floats, labels: Ints, predicted: Ints, probabilities: Floats | None, units: Units
) -> SoftScores:
    """Every figure against the votes, with its bootstrap interval.

    Args:
        shares: [N, C], the share of each class in the votes for an image; rows sum to 1.
        labels: [N], ids that the votes were made to.
        predicted: [N], ids, or -1 for a miss.
        probabilities: [N, C], rows sum to 1, those of misses are not looked at; None for labels only.
        units: What the bootstrap draws.
    """
    where = np.flatnonzero(predicted >= 0)  # [M], the scored images
    sums = _sums(shares, predicted, probabilities, where)  # [K, N]
    resampled = [_figures(sums @ weights) for weights in units.resampled()]
    replicates = {name: np.concatenate([each[name] for each in resampled]) for name in resampled[0]}
    totals = sums @ np.ones((len(labels), 1), np.int32)  # [K, 1]
    values = {name: float(value[0]) for name, value in _figures(totals).items()}
    names = ("voter_agreement", *(("cross_entropy", "kl", "soft_ece") if probabilities is not None else ()))
    return SoftScores(
        all={"voter_agreement": percentile(values["voter_agreement_of_all"], replicates["voter_agreement_of_all"])},
        scored={
            name: percentile(values[name], replicates[name], centred=name == "soft_ece") if len(where) else None
            for name in names
        },
        label_agreement=float(shares[np.arange(len(labels)), labels].mean()),
        entropy=float(entr(shares[where]).sum(axis=1).mean()) if len(where) else None,
        reliability=reliability(totals[_BINS:]) if probabilities is not None else (),
        remarks=_remarks(shares[where], probabilities[where]) if probabilities is not None else (),
    )


def vote_shares(votes: Sequence[Mapping[str, float]], classes: tuple[str, ...]) -> Floats:
    """The share of each class in the votes for each image, [N, C].

    As in FERPlus' own rule single votes are taken as noise and left out, and so are votes for what is none of the
    classes (unknown, no face, perhaps contempt).

    Args:
        votes: [N], how many annotators named each class; two or more for one of the classes.
    """
    counts = np.array([[each.get(name, 0) for name in classes] for each in votes], np.float64)  # [N, C]
    counts[counts < 2] = 0
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _sums(shares: Floats, predicted: Ints, probabilities: Floats | None, where: Ints) -> scipy.sparse.csr_array:
    """The matrix [K, N] whose product with how often each image counts gives the sums."""
    n, ones = len(predicted), np.ones(len(where))
    agreement = shares[where, predicted[where]]  # [M]
    entries = [
        (np.full(n, _ALL), np.arange(n), np.ones(n)),
        (np.full(len(where), _SCORED), where, ones),
        (np.full(len(where), _AGREEMENT), where, agreement),
    ]
    if probabilities is not None:
        p, q = shares[where], np.maximum(probabilities[where], FLOOR)  # [M, C]
        confidence = probabilities[where, predicted[where]]  # [M]
        bins = _BINS + bin_of(confidence)
        entries += [
            (np.full(len(where), _CROSS_ENTROPY), where, -(p * np.log(q)).sum(axis=1)),
            (np.full(len(where), _KL), where, rel_entr(p, q).sum(axis=1)),
            (bins, where, ones),
            (bins + NUM_BINS, where, confidence),
            (bins + 2 * NUM_BINS, where, agreement),
        ]
    rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return scipy.sparse.csr_array((values, (rows, columns)), shape=(_BINS + 3 * NUM_BINS, n))


def _figures(totals: Floats) -> dict[str, Floats]:
    """Each figure, [B], from the sums, [K, B]."""
    return {
        "voter_agreement_of_all": ratio(totals[_AGREEMENT], totals[_ALL]),
        "voter_agreement": ratio(totals[_AGREEMENT], totals[_SCORED]),
        "cross_entropy": ratio(totals[_CROSS_ENTROPY], totals[_SCORED]),
        "kl": ratio(totals[_KL], totals[_SCORED]),
        "soft_ece": calibration_error(totals[_BINS:]),
    }


def _remarks(shares: Floats, probabilities: Floats) -> tuple[str, ...]:
    """What a reader must know of the scored images; both [M, C]."""
    at_floor = int(((probabilities < FLOOR) & (shares > 0)).any(axis=1).sum())
    if not at_floor:
        return ()
    return (
        f"votes are for a class whose probability is 0 or below {FLOOR:.1e} in {at_floor} of the scored images: it "
        "counts as that there, so kl and cross_entropy depend on how the predictions were rounded",
    )
