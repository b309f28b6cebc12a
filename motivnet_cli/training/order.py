"""Which examples a process takes in which order, and what chance it has: functions of seed, epoch and step alone.

So a training that was stopped needs no state of a generator to go on as if it had not been, and neither the number of
reading threads nor that of processes changes which examples make up a step.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

_ORDER, _STEP = 1, 2
"""What a draw is for: each has numbers of its own."""
_BATCHES_AHEAD = 2
"""That are read while the network computes."""


class Portion(NamedTuple):
    """The examples that one process takes at once."""

    indices: tuple[int, ...]
    counted: int
    """How many of them count: all, or of one that stands in for none, 0."""
    share: float
    """The mean loss counts so much in what is differentiated: then the sum over the portions of a step, as Lightning
    divides it, is the mean over all examples of the step."""
    seed: int
    """Of what is drawn while the network computes, such as dropout."""
    ends_step: bool
    """The weights change after it."""


class Batch(NamedTuple):
    """A portion that was read."""

    pixels: Tensor
    """uint8 RGB [B, 3, H, W]."""
    targets: Tensor
    """float32 [B, C], rows sum to 1."""
    portion: Portion


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order of the training examples in every epoch.

    A step takes `batch_size` examples for each process and portion; of the last one, what is left is shared out, so
    that processes and portions change nothing but the order of a sum.
    """

    num_examples: int
    batch_size: int
    """Examples that one process takes at once."""
    seed: int
    accumulate: int = 1
    """Portions of each process in a step."""
    rank: int = 0
    """Of this process."""
    world: int = 1
    """Processes."""
    chances: NDArray[np.float64] | None = None
    """Of each example to be drawn, with replacement; None takes every example once an epoch."""

    @property
    def examples_a_step(self) -> int:
        return self.batch_size * self.world * self.accumulate

    @property
    def steps(self) -> int:
        """In an epoch."""
        return -(-self.num_examples // self.examples_a_step)

    def of_epoch(self, epoch: int) -> NDArray[np.int64]:
        """The examples of all processes, [N]."""
        draw = np.random.default_rng((_ORDER, self.seed, epoch))
        if self.chances is None:
            return draw.permutation(self.num_examples)
        return draw.choice(self.num_examples, self.num_examples, p=self.chances)

    def portions(self, epoch: int, *, first_step: int = 0) -> list[Portion]:
        """What this process takes in an epoch, from a step on."""
        order = self.of_epoch(epoch).tolist()
        return [each for step in range(first_step, self.steps) for each in self._portions_of_step(order, epoch, step)]

    def _portions_of_step(self, order: list[int], epoch: int, step: int) -> Iterator[Portion]:
        start = step * self.examples_a_step
        examples = order[start : start + self.examples_a_step]
        at_once = self.batch_size * self.world
        for first in range(0, len(examples), at_once):
            mine = examples[first : first + at_once][self.rank :: self.world]
            yield Portion(
                # With nothing left for it, a process still takes part in the step, with an example that does not count.
                indices=tuple(mine or examples[:1]),
                counted=len(mine),
                share=len(mine) / len(examples) * self.world * self.accumulate,
                seed=_seed(_STEP, self.seed, epoch, step, first, self.rank),
                ends_step=first + at_once >= len(examples),
            )


def held_out_portions(num_examples: int, *, batch_size: int, rank: int = 0, world: int = 1) -> list[Portion]:
    """What one process takes of the validation examples: every `world`-th, from its rank on.

    All take equally many, where need be the first ones again, so that results can be gathered.
    """
    each = -(-num_examples // world)
    mine = [(i * world + rank) % num_examples for i in range(each)]
    return [
        Portion(indices=tuple(some), counted=len(some), share=1.0, seed=0, ends_step=False)
        for some in (mine[i : i + batch_size] for i in range(0, each, batch_size))
    ]


class Loader:
    """Reads portions one after the other, some ahead, with threads.

    Args:
        read: An example's pixels by its index, uint8 RGB [3, H, W]; called in several threads at once.
        targets: [N, C], float32.
    """

    def __init__(
        self,
        read: Callable[[int], Tensor],
        targets: NDArray[np.float32],
        portions: Sequence[Portion],
        *,
        threads: int,
    ) -> None:
        self._read = read
        self._targets = targets
        self._portions = portions
        self._threads = threads

    def __len__(self) -> int:
        return len(self._portions)

    def __iter__(self) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="motivnet-reader")
        try:
            ahead: deque[tuple[Portion, list[Future[Tensor]]]] = deque()
            for portion in self._portions:
                ahead.append((portion, [pool.submit(self._read, index) for index in portion.indices]))
                if len(ahead) > _BATCHES_AHEAD:
                    yield self._batch(*ahead.popleft())
            while ahead:
                yield self._batch(*ahead.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, portion: Portion, pixels: Sequence[Future[Tensor]]) -> Batch:
        return Batch(
            torch.stack([each.result() for each in pixels]),
            torch.from_numpy(self._targets[list(portion.indices)]),
            portion,
        )


def _seed(*numbers: int) -> int:
    """Numbers that differ give seeds that have nothing to do with each other."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
