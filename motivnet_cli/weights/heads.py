"""Heads in the model store: their tensors alone, under the names of `motivnet_cli.model`; the rest is in the record.

A head is loaded onto the network whose embeddings it classifies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motivnet_cli.errors import WeightsError, first_line
from motivnet_cli.model import EmbeddingClassifier, LayeredHead, NeighboursHead
from motivnet_cli.weights.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from torch import nn

    from motivnet_cli.model import ExpressionNet, SapiensEmbedder
    from motivnet_cli.weights.checkpoint import Checkpoint
    from motivnet_cli.weights.training_record import TrainingRecord

NEIGHBOURS = "neighbours"
"""In the metadata of a file of a `NeighboursHead`: how many vote."""


def load_head(path: str, training: TrainingRecord, parent: ExpressionNet | SapiensEmbedder) -> EmbeddingClassifier:
    """A head on the network whose embeddings it classifies, in eval mode, without gradients, on the CPU.

    Raises:
        WeightsError: The file is missing, damaged or no such head, or is of embeddings of another size.
    """
    checkpoint = read_checkpoint(path)
    try:
        head, width = _build(checkpoint, num_classes=len(training.classes))
    except (RuntimeError, LookupError, ValueError) as error:
        raise WeightsError(f"{path} is no head that can be used ({first_line(error)}): train it again") from error
    if width != parent.embedding_size:
        raise WeightsError(
            f"{path} classifies embeddings of {width} numbers, and those of its model have {parent.embedding_size}: "
            "train it again"
        )
    network = EmbeddingClassifier(parent, head, classes=training.classes, flip=training.preparation.flip)
    return network.eval().requires_grad_(False)


def _build(checkpoint: Checkpoint, *, num_classes: int) -> tuple[nn.Module, int]:
    """The head, and the size of the embeddings that it takes.

    Raises:
        ValueError: The tensors have another number of classes.
        LookupError: One that tells the sizes is missing.
        RuntimeError: They are not exactly those of such a head.
    """
    tensors = checkpoint.tensors
    head: nn.Module
    if "references" in tensors:
        rows, width = tensors["references"].shape
        neighbours = int(checkpoint.metadata[NEIGHBOURS])
        head = NeighboursHead((rows, width), neighbours=neighbours, num_classes=num_classes)
    else:
        weights = [tensor for name, tensor in sorted(tensors.items()) if name.endswith(".weight")]
        width = weights[0].shape[1]
        if len(weights[-1]) != num_classes:
            raise ValueError(f"{len(weights[-1])} logits for {num_classes} classes")
        head = LayeredHead((width, *(len(weight) for weight in weights)))
    head.load_state_dict(tensors, strict=True)
    return head, width
