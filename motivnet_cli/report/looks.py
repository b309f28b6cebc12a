"""How emotions look in charts: the same colour for an emotion on every page, whatever the classes of the model."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Okabe and Ito's colours (jfly.uni-koeln.de/color), told apart by colour-blind readers; grey and brown are ours.
_EMOTIONS = {
    "neutral": "#8a94a3",
    "happiness": "#e69f00",
    "sadness": "#0072b2",
    "surprise": "#56b4e9",
    "fear": "#cc79a7",
    "disgust": "#009e73",
    "anger": "#d55e00",
    "contempt": "#8c564b",
}
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""Of lines whose colour another one has: lengths drawn and left out, in pixels."""


class Look(NamedTuple):
    """How a class is drawn."""

    colour: str
    """As CSS has it; clear on white and on black."""
    dash: str
    """Of its lines, as SVG has it; empty for a plain one."""
    is_hatched: bool
    """Whether areas are hatched, since another class has the colour."""


def looks_of(classes: Sequence[str]) -> dict[str, Look]:
    """The look of each class: known emotions have their own colours, others take turns with what is left."""
    looks = {name: Look(_EMOTIONS[name], "", is_hatched=False) for name in classes if name in _EMOTIONS}
    every = (Look(colour, dash, is_hatched=bool(dash)) for dash in _DASHES for colour in _EMOTIONS.values())
    left = itertools.cycle([look for look in every if look not in looks.values()])
    return {name: looks.get(name) or next(left) for name in classes}
