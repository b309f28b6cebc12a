"""Classifiers on embeddings: what is held out was not learned, and the network says what scikit-learn says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from motivnet_cli.training import heads
from motivnet_cli.training.heads import KINDS
from tests.labelled import blobs

FACES = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
"""Embeddings that no head learned."""


@pytest.fixture(autouse=True)
def one_thread():
    """As `train_head` fits heads on few numbers: more threads only wait for each other."""
    with threadpool_limits(1):
        yield


def logits_of(head, x):
    return head(torch.from_numpy(x)).numpy().astype(np.float64)


def probabilities_of(head, x):
    exp = np.exp(logits_of(head, x))
    return exp / exp.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["linear", "mlp", "knn"])
def test_the_network_gives_the_probabilities_of_scikit_learn(kind, classes):
    """A head has the numbers of its classifier, as scikit-learn computes them from the same embeddings."""
    x, labels, groups = blobs(groups=12, a_group=5, classes=classes, apart=1.5)
    fitted = heads.fit(KINDS[kind], x, labels, groups, seed=0)
    setting = {KINDS[kind].setting: heads.setting_of(KINDS[kind], fitted)}
    scaler = StandardScaler().fit(x)
    if kind == "linear":
        plain = LogisticRegression(max_iter=300, random_state=0, **setting).fit(scaler.transform(x), labels)
        expected = plain.predict_proba(scaler.transform(FACES))
    elif kind == "mlp":
        plain = MLPClassifier((256,), max_iter=100, random_state=0, **setting)
        with pytest.warns(match="Maximum iterations"):
            plain.fit(scaler.transform(x), labels)
        expected = plain.predict_proba(scaler.transform(FACES))
    else:
        plain = KNeighborsClassifier(metric="cosine", algorithm="brute", **setting).fit(x, labels)
        expected = plain.predict_proba(FACES)

    head = heads.head_of(fitted, x, labels, temperature=1.0)

    np.testing.assert_allclose(probabilities_of(head, FACES), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_a_temperature_divides_the_logits(kind):
    """The head that is stored is the calibrated one."""
    x, labels, groups = blobs(groups=12, a_group=5)
    fitted = heads.fit(KINDS[kind], x, labels, groups, seed=0)
    raw, warm = (heads.head_of(fitted, x, labels, temperature=each) for each in (1.0, 2.5))

    np.testing.assert_allclose(logits_of(warm, FACES), logits_of(raw, FACES) / 2.5, rtol=1e-6)


def copies_without_meaning():
    """Every embedding five times in its group, with a label by chance for the group."""
    rng = np.random.default_rng(3)
    x = np.repeat(rng.normal(size=(60, 16)), 5, axis=0).astype(np.float32)
    groups = np.repeat(np.arange(60), 5)
    return x, rng.integers(2, size=60)[groups], groups


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_copies_of_a_face_are_on_one_side_of_a_fold(kind):
    """Labels without meaning are guessed at chance, where folds that split copies would give all of them right."""
    x, labels, groups = copies_without_meaning()
    leaking = cross_val_predict(KNeighborsClassifier(1), x, labels, cv=StratifiedKFold(5, shuffle=True, random_state=0))
    assert (leaking == labels).mean() == 1.0

    splits = heads.split_by_group(labels, groups, 5, seed=0)
    found = heads.cross_validate(KINDS[kind], x, labels, groups, splits, seed=0, on_fold=lambda fold: None)

    assert (found.probabilities.argmax(axis=1) == labels).mean() < 0.65


def test_every_face_is_held_out_once_and_groups_stay_whole():
    """Folds part the groups, and together they are all faces."""
    _, labels, groups = blobs(groups=23, a_group=4, classes=3)

    splits = heads.split_by_group(labels, groups, 5, seed=0)

    assert len(splits) == 5
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(labels)))
    for split in splits:
        assert not set(groups[split.train]) & set(groups[split.test])
        assert set(split.train) | set(split.test) == set(range(len(labels)))


@pytest.mark.parametrize(
    ("groups", "folds"), [(np.zeros(6, int), 0), (np.array([0, 0, 1, 1, 2, 2]), 3), (np.arange(6), 3)]
)
def test_there_are_no_more_folds_than_groups_or_faces_of_a_class(groups, folds):
    """Asked for five folds, as many are made as can be."""
    assert len(heads.split_by_group(np.array([0, 1, 0, 1, 0, 1]), groups, 5, seed=0)) == folds


def test_the_setting_of_a_fold_does_not_depend_on_what_is_held_out():
    """Other embeddings and labels in a held-out fold change neither the chosen setting nor the head."""
    x, labels, groups = blobs(groups=20, a_group=3, apart=1.0)
    splits = heads.split_by_group(labels, groups, 4, seed=0)
    held_out = splits[0].test
    changed, other = x.copy(), labels.copy()
    changed[held_out], other[held_out] = 100, 1 - labels[held_out]

    first, second = (
        heads.cross_validate(KINDS["linear"], faces, ids, groups, splits[:1], seed=0, on_fold=lambda fold: None)
        for faces, ids in ((x, labels), (x, other))
    )
    learned = heads.fit(
        KINDS["linear"], changed[splits[0].train], other[splits[0].train], groups[splits[0].train], seed=0
    )

    assert first.chosen == second.chosen == (heads.setting_of(KINDS["linear"], learned),)
    np.testing.assert_array_equal(first.probabilities[held_out], second.probabilities[held_out])


def test_no_more_neighbours_are_asked_than_a_group_leaves():
    """Of 24 faces one group has 18: without it 6 are left, and 10 neighbours cannot vote."""
    labels = np.tile([0, 1], 12)
    x = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    groups = np.maximum(np.arange(24) - 17, 0)

    fitted = heads.fit(KINDS["knn"], x, labels, groups, seed=0)

    assert heads.setting_of(KINDS["knn"], fitted) in (1, 3, 5)


def test_where_regularisation_is_needed_it_is_chosen():
    """Labels by chance ask for the most, a clear border between many faces for the least."""
    rng = np.random.default_rng(0)
    x, each = rng.normal(size=(300, 20)).astype(np.float32), np.arange(300)
    by_chance, clear = (
        heads.setting_of(KINDS["linear"], heads.fit(KINDS["linear"], x, labels, each, seed=0))
        for labels in (rng.integers(2, size=300), (x[:, 0] > 0).astype(int))
    )

    assert by_chance == min(KINDS["linear"].values)
    assert clear == max(KINDS["linear"].values)


def test_probabilities_too_sure_are_cooled_by_the_other_folds():
    """Softmax of thrice the true logits: the temperature is about three, and that of a fold ignores its own labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in true])
    sure = true**3 / (true**3).sum(axis=1, keepdims=True)
    fold_of = np.arange(2000) % 4

    calibrated = heads.calibrate(labels, heads.OutOfFold(sure, fold_of, ()))

    assert calibrated.temperature == pytest.approx(3.0, abs=0.3)
    assert np.abs(calibrated.probabilities - true).mean() < 0.02
    other = labels.copy()
    other[fold_of == 0] = (labels[fold_of == 0] + 1) % 3
    again = heads.calibrate(other, heads.OutOfFold(sure, fold_of, ()))
    np.testing.assert_array_equal(again.probabilities[fold_of == 0], calibrated.probabilities[fold_of == 0])


def test_a_temperature_that_makes_nothing_better_is_not_taken():
    """Probabilities that are right already, and answers that are all right, stay as they are."""
    sure = np.eye(2)[np.arange(40) % 2] * 0.8 + 0.1

    calibrated = heads.calibrate(np.arange(40) % 2, heads.OutOfFold(sure, np.arange(40) % 4, ()))

    assert calibrated.temperature == 1.0
    np.testing.assert_array_equal(calibrated.probabilities, sure)
    assert "raw" in calibrated.remarks[0]


def test_a_sample_keeps_every_class_and_the_shares():
    """A tenth of the faces: a tenth of each class, and the only face of another."""
    labels = np.array([0] * 700 + [1] * 299 + [2])

    drawn = heads.draw_sample(labels, 100, seed=0)

    assert np.bincount(labels[drawn]).tolist() == [70, 30, 1]
    assert len(np.unique(drawn)) == len(drawn)
    assert (np.diff(drawn) > 0).all()


def test_more_shots_are_worth_more():
    """The few-shot curve rises from near chance, and lies below what all faces give."""
    x, labels, groups = blobs(groups=60, a_group=4, classes=4, apart=1.7)
    splits = heads.split_by_group(labels, groups, 3, seed=0)

    def curve(shots):
        return heads.few_shot(KINDS["linear"], x, labels, splits, shots, seed=0, on_draw=lambda: None)

    one, ten = (curve(shots).figures["accuracy"] for shots in (1, 10))
    assert 0.25 < one.value < ten.value < 0.95
    assert one.low < one.value < one.high
    assert one.high - one.low > ten.high - ten.low
    assert curve(41) is None  # a class has 60 faces, of which 20 are in a fold


def test_a_class_that_a_fold_has_not_learned_gets_no_probability():
    """A class of one group: the fold that holds it out cannot know it."""
    x, labels, groups = blobs(groups=9, a_group=3, classes=2)
    labels = np.where(groups == 0, 2, labels)
    splits = heads.split_by_group(labels, groups, 3, seed=0)

    found = heads.cross_validate(KINDS["linear"], x, labels, groups, splits, seed=0, on_fold=lambda fold: None)

    assert (found.probabilities[groups == 0, 2] == 0).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
