"""The order of examples is a function of seed, epoch and step, and a step is the same however it is shared out."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch

from motivnet_cli.training.order import Loader, Order, held_out_portions

TOGETHER = Order(num_examples=45, batch_size=12, seed=5)


def steps_of(orders: list[Order], epoch: int) -> list[list[int]]:
    """The examples of each step that count, of all processes together."""
    steps = [[] for _ in range(orders[0].steps)]
    for order in orders:
        number = 0
        for portion in order.portions(epoch):
            steps[number] += portion.indices[: portion.counted]
            number += portion.ends_step
        assert number == order.steps
    return [sorted(step) for step in steps]


def test_an_epoch_takes_every_example_once_in_an_order_of_its_own():
    first, second = (steps_of([TOGETHER], epoch) for epoch in (0, 1))

    assert sorted(index for step in first for index in step) == list(range(45))
    assert [len(step) for step in first] == [12, 12, 12, 9]
    assert first != second
    assert first == steps_of([TOGETHER], 0)
    assert first != steps_of([Order(num_examples=45, batch_size=12, seed=6)], 0)


@pytest.mark.parametrize(("batch_size", "accumulate", "world"), [(6, 1, 2), (3, 4, 1), (2, 3, 2), (1, 1, 12)])
def test_processes_and_accumulation_make_up_the_same_steps(batch_size, accumulate, world):
    """The shares are such that Lightning's division gives the mean over the step, of the last one, too.

    Lightning divides each portion's gradient by `accumulate`, and takes the mean over the processes.
    """
    orders = [
        Order(num_examples=45, batch_size=batch_size, seed=5, accumulate=accumulate, rank=rank, world=world)
        for rank in range(world)
    ]
    assert steps_of(orders, 3) == steps_of([TOGETHER], 3)

    in_step = [len(step) for step in steps_of([TOGETHER], 3)]
    weights = Counter()
    for order in orders:
        number = 0
        for portion in order.portions(3):
            for index in portion.indices[: portion.counted]:
                weights[index] += portion.share / portion.counted / accumulate / world * in_step[number]
            assert portion.counted or portion.share == 0
            number += portion.ends_step
    assert weights == pytest.approx(dict.fromkeys(range(45), 1.0))


def test_all_processes_take_part_in_every_step():
    """Of 13 examples, the last goes to one of four processes; the others stand by with one that does not count."""
    orders = [Order(num_examples=13, batch_size=1, seed=0, rank=rank, world=4) for rank in range(4)]

    last = [order.portions(0)[-1] for order in orders]

    assert [portion.counted for portion in last] == [1, 0, 0, 0]
    assert len({portion.indices for portion in last}) == 1
    assert [portion.share for portion in last] == [4, 0, 0, 0]


def test_what_is_left_of_an_epoch_is_its_end():
    order = Order(num_examples=45, batch_size=4, seed=5, accumulate=3)

    assert order.portions(2, first_step=2) == order.portions(2)[6:]


def test_every_portion_has_a_seed_of_its_own():
    seeds = {
        portion.seed
        for rank in range(2)
        for epoch in range(3)
        for portion in Order(num_examples=45, batch_size=4, seed=5, rank=rank, world=2).portions(epoch)
    }
    assert len(seeds) == 2 * 3 * 6


def test_chances_are_those_of_the_draw():
    """With replacement: 9,000 draws, of which each has its chance within four standard deviations."""
    chances = np.array([0.5, 0.3, 0.2] + [0.0] * 8_997)
    drawn = np.bincount(Order(num_examples=9_000, batch_size=1, seed=0, chances=chances).of_epoch(0), minlength=9_000)

    deviation = np.sqrt(9_000 * chances * (1 - chances))
    assert (np.abs(drawn - 9_000 * chances) <= 4 * deviation).all()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_examples_can_be_put_in_their_order_again(world):
    portions = [held_out_portions(10, batch_size=2, rank=rank, world=world) for rank in range(world)]
    taken = [[index for portion in each for index in portion.indices] for each in portions]

    assert len({len(each) for each in taken}) == 1
    assert [each[i] for i in range(len(taken[0])) for each in taken][:10] == list(range(10))


def test_examples_are_read_by_threads_and_come_in_order():
    names, barrier = set(), threading.Barrier(2, timeout=30)

    def read(index):
        names.add(threading.current_thread().name)
        if index < 4:
            barrier.wait()  # two are read at once
        time.sleep(0.002 * (index % 3))
        return torch.full((3, 1, 1), index, dtype=torch.uint8)

    targets = np.arange(40, dtype=np.float32).reshape(20, 2)
    batches = list(Loader(read, targets, held_out_portions(20, batch_size=4), threads=2))

    assert torch.cat([batch.pixels[:, 0, 0, 0] for batch in batches]).tolist() == list(range(20))
    assert torch.cat([batch.targets for batch in batches]).equal(torch.from_numpy(targets))
    assert len(names) == 2


def test_a_picture_that_cannot_be_read_ends_the_reading():
    def read(index):
        raise OSError(5, "broken disk")

    batches = Loader(read, np.zeros((8, 2), np.float32), held_out_portions(8, batch_size=4), threads=2)
    with pytest.raises(OSError, match="broken disk"):
        next(iter(batches))
