"""What a file must hold to bear a name of the catalogue: the sizes and classes of the published networks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.catalogue import SAPIENS_SIZES
from motivnet_cli.errors import WeightsError
from motivnet_cli.model import MotivNetSizes, SapiensEmbedder, SapiensSizes
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from motivnet_cli.model import ExpressionNet

_AS_TRAINED, _RESIZED = "as trained", "resized"


class _Traits(NamedTuple):
    """What tells a network from others of its architecture."""

    kind: str
    sizes: SapiensSizes
    classes: tuple[str, ...]
    position_table: str
    """`_AS_TRAINED` or `_RESIZED`: the pose encoders and MotivNet were trained at their input size."""

    @classmethod
    def of(cls, sizes: SapiensSizes, classes: tuple[str, ...], position_table: str) -> _Traits:
        kind = "a MotivNet" if isinstance(sizes, MotivNetSizes) else "a Sapiens encoder alone"
        return cls(kind, sizes, classes, position_table)

    def as_texts(self) -> dict[str, object]:
        """By the name of each trait, what a message says of it."""
        classes = {"classes": "/".join(self.classes)} if self.classes else {}
        return {"kind": self.kind, **dataclasses.asdict(self.sizes), **classes, "position table": self.position_table}


def _published() -> dict[str, _Traits]:
    traits = {"motivnet-1b": _Traits.of(MotivNetSizes(), EMOTIONS, _AS_TRAINED)}
    for each in SAPIENS_SIZES:
        sizes = SapiensSizes(width=each.width, depth=each.depth, heads=each.heads, mlp=each.mlp)
        traits[each.pose_name] = _Traits.of(sizes, (), _AS_TRAINED)
        traits[each.pretrained_name] = _Traits.of(sizes, (), _RESIZED)
    return traits


_PUBLISHED = _published()
"""By name; the sizes of arXiv 2512.24231 and arXiv 2408.12569."""


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
    expected = _PUBLISHED[name].as_texts()
    found: dict[str, object] = {"kind": "an ExpressionNet"}
    if isinstance(network, SapiensEmbedder):
        table = _RESIZED if network.position_change else _AS_TRAINED
        found = _Traits.of(network.sizes, network.classes, table).as_texts()
    if differing := [
        f"{trait} is {found[trait]}, not {value}"
        for trait, value in expected.items()
        if trait in found and found[trait] != value
    ]:
        raise WeightsError(f"{source} holds another network than {name}: {', '.join(differing)}; {remedy}")
