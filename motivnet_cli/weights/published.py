"""What a file must hold to bear a name of the catalogue: the sizes and classes of the published networks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from motivnet_cli.errors import WeightsError
from motivnet_cli.model import MotivNetSizes, SapiensEmbedder, SapiensSizes
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from motivnet_cli.model import ExpressionNet

_PUBLISHED: dict[str, tuple[SapiensSizes, tuple[str, ...]]] = {
    "motivnet-1b": (MotivNetSizes(), EMOTIONS),
    "sapiens-1b": (SapiensSizes(), ()),
}
"""Name -> sizes and classes; those of arXiv 2512.24231 and arXiv 2408.12569 are the defaults of the sizes."""


def check_published(name: str, network: ExpressionNet | SapiensEmbedder, *, source: str, remedy: str) -> None:
    """Refuse a network that is not the one that the catalogue calls by this name; any other name promises nothing.

    Args:
        network: Its sizes and classes are looked at, not its numbers.
        source: Where it comes from, for the message.
        remedy: What to do with it, for the message.

    Raises:
        WeightsError: It is another one; the message says in what.
    """
    if name not in _PUBLISHED:
        return
    expected = _traits(*_PUBLISHED[name])
    found: dict[str, object] = {"kind": "an ExpressionNet"}
    if isinstance(network, SapiensEmbedder):
        found = _traits(network.sizes, network.classes)
    if differing := [
        f"{trait} is {found[trait]}, not {value}"
        for trait, value in expected.items()
        if trait in found and found[trait] != value
    ]:
        raise WeightsError(f"{source} holds another network than {name}: {', '.join(differing)}; {remedy}")


def _traits(sizes: SapiensSizes, classes: tuple[str, ...]) -> dict[str, object]:
    has_head = isinstance(sizes, MotivNetSizes)
    kind = "a MotivNet" if has_head else "a Sapiens encoder alone"
    return {"kind": kind, **dataclasses.asdict(sizes)} | ({"classes": "/".join(classes)} if has_head else {})
