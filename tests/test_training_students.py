"""A student: where it starts, what it minimises, which faces it is judged by, and how agreement is measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from torch.nn import functional

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import EMOTIONS
from motivnet_cli.training.result import Judged
from motivnet_cli.training.students import agreement, answers, divergence, soft_loss, split_by_input, start
from motivnet_cli.weights.networks import load_expression_net

OWN = ("awake", "neutral", "asleep")


def distributions(n, classes, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), size=n).astype(np.float32)


def pixels(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, 112, 112), np.uint8))


# ---- the loss ----


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_loss_is_the_divergence_of_tempered_distributions_times_t_squared(temperature):
    teacher = distributions(8, 7, seed=1).astype(np.float64)
    logits = np.random.default_rng(2).normal(0, 3, (8, 7))

    loss = soft_loss(torch.from_numpy(logits), torch.from_numpy(teacher), temperature=temperature)

    powers = teacher ** (1 / temperature)
    tempered = powers / powers.sum(axis=1, keepdims=True)
    logs = logits / temperature - scipy.special.logsumexp(logits / temperature, axis=1, keepdims=True)
    divergences = (tempered * (np.log(tempered) - logs)).sum(axis=1)
    assert loss.item() == pytest.approx(divergences.mean() * temperature**2, rel=1e-12)


def test_gradients_are_those_of_the_papers_loss_of_the_teachers_logits():
    teacher_logits, logits = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    ours, papers = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    soft_loss(ours, teacher_logits.softmax(1), temperature=3.0).backward()
    (functional.cross_entropy(papers / 3, (teacher_logits / 3).softmax(1)) * 9).backward()

    assert torch.allclose(ours.grad, papers.grad, rtol=1e-10)


def test_a_class_without_any_probability_is_learned_from():
    logits = torch.zeros(1, 3, requires_grad=True)

    loss = soft_loss(logits, torch.tensor([[1.0, 0.0, 0.0]]), temperature=2.0)
    loss.backward()

    assert loss.item() == pytest.approx(4 * math.log(3))
    assert logits.grad.tolist()[0] == pytest.approx([-4 / 3, 2 / 3, 2 / 3])


def test_the_divergence_is_zero_where_both_say_the_same():
    teacher = torch.tensor([[0.7, 0.2, 0.1, 0.0]])
    even = math.log(4) + 0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)

    assert divergence((teacher + 1e-30).log(), teacher).item() == pytest.approx(0, abs=1e-6)
    assert divergence(torch.zeros(1, 4), teacher).item() == pytest.approx(even, rel=1e-6)


# ---- the network ----


def test_its_gradients_are_right_although_it_computes_in_place():
    network = start(EMOTIONS, from_scratch=False, seed=0).network.double()
    network.mean = network.mean.double()
    faces, teacher = pixels(1), torch.from_numpy(distributions(1, 7, seed=3)).double()

    def loss():
        return soft_loss(network(faces)[0], teacher, temperature=2.0)

    loss().backward()
    draw = torch.Generator().manual_seed(4)
    for part in (*network.blocks, network.fc):
        weights = list(part.parameters())
        directions = [torch.randn(weight.shape, generator=draw, dtype=torch.float64) for weight in weights]
        expected = sum((weight.grad * way).sum().item() for weight, way in zip(weights, directions, strict=True))
        around = []
        with torch.no_grad():
            for step in (1e-7, -2e-7):
                for weight, way in zip(weights, directions, strict=True):
                    weight += step * way
                around.append(loss().item())
            for weight, way in zip(weights, directions, strict=True):
                weight += 1e-7 * way
        assert (around[0] - around[1]) / 2e-7 == pytest.approx(expected, rel=2e-3)


def test_with_the_classes_of_the_embedded_model_it_starts_as_that_one_in_its_order():
    embedded = load_expression_net()
    begun = start(EMOTIONS[::-1], from_scratch=False, seed=0)

    assert begun.network.classes == embedded.classes
    assert begun.is_embedded
    with torch.no_grad():
        assert torch.equal(begun.network(pixels(2))[0], embedded(pixels(2))[0])
    assert all(weight.requires_grad for weight in begun.network.parameters())
    assert begun.network.training


def test_with_other_classes_its_last_layer_is_drawn_by_the_seed():
    embedded = load_expression_net()
    ours, again, other = (start(OWN, from_scratch=False, seed=seed).network for seed in (5, 5, 6))

    assert ours.classes == ("neutral", "awake", "asleep")
    assert ours.fc.weight.shape == (3, 256)
    assert torch.equal(ours.fc.weight, again.fc.weight)
    assert not torch.equal(ours.fc.weight, other.fc.weight)
    with torch.no_grad():
        assert torch.equal(ours(pixels(1))[1], embedded(pixels(1))[1])


def test_from_scratch_its_signal_neither_dies_nor_explodes():
    state = torch.get_rng_state()

    network = start(EMOTIONS, from_scratch=True, seed=0).network
    with torch.no_grad():
        logits, embedding = network(pixels(4))

    assert 0.2 < embedding.std().item() < 5
    assert 0.2 < logits.std().item() < 5
    assert torch.equal(torch.get_rng_state(), state)


def test_answers_are_the_means_over_faces_and_their_mirror_images():
    network = load_expression_net()
    faces = pixels(3)

    said = answers(network, faces, 3)

    with torch.no_grad():
        views = [network(view)[0].softmax(1) for view in (faces, faces.flip(-1))]
    assert np.allclose(said, (views[0] + views[1]).numpy() / 2, atol=1e-7)


# ---- which faces, and how far it agrees ----


def test_the_faces_of_an_input_are_on_one_side():
    names = [f"{i % 40}.mp4" for i in range(200)]

    sides = split_by_input(names, seed=1)

    inputs = [{names[i] for i in side} for side in sides]
    assert [len(each) for each in inputs] == [32, 4, 4]
    assert sorted(np.concatenate(sides).tolist()) == list(range(200))
    assert len(set.union(*inputs)) == 40
    again, other = split_by_input(names, seed=1), split_by_input(names, seed=2)
    assert all((a == b).all() for a, b in zip(sides, again, strict=True))
    assert sides.held_out.tolist() != other.held_out.tolist()


def test_too_few_inputs_are_refused():
    with pytest.raises(ConfigError, match="of 9 inputs, and a student needs 10"):
        split_by_input([f"{i % 9}" for i in range(100)], seed=0)


def judged(teacher, student, names, *, classes, groups=None):
    return Judged(
        classes=classes, names=tuple(names), labels=teacher.argmax(axis=1), probabilities=student, groups=groups
    )


def test_agreement_by_hand():
    """Four faces: the teacher says a a a b, the student a a b b."""
    teacher = np.array([[0.8, 0.2], [0.6, 0.4], [0.9, 0.1], [0.3, 0.7]], np.float32)
    student = np.array([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.3, 0.7]], np.float32)

    found = agreement(judged(teacher, student, "wxyz", classes=("a", "b")), teacher, always="b")

    kl = 0.8 * math.log(8 / 6) + 0.2 * math.log(1 / 2) + 0.9 * math.log(9 / 4) + 0.1 * math.log(1 / 6)
    assert (found["agreement"].value, found["always"].value) == (0.75, 0.25)
    assert found["kl"].value == pytest.approx(kl / 4, rel=1e-6)
    assert (found["agreement"].low, found["agreement"].high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson


def test_intervals_go_by_inputs_where_one_has_several_faces():
    teacher, student = distributions(60, 3, seed=5), distributions(60, 3, seed=6)
    names = [f"{i // 10}.mp4" for i in range(60)]

    found = agreement(judged(teacher, student, names, classes=tuple("abc"), groups=names), teacher, always="a")
    apart = agreement(judged(teacher, student, names, classes=tuple("abc")), teacher, always="a")

    assert found["agreement"].value == apart["agreement"].value
    assert found["agreement"].low != apart["agreement"].low
