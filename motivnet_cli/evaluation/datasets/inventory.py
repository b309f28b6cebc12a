"""Which labelled sets are on this machine, and whether they are whole: found, read, and counted against the published.

No picture is decoded and no network runs. Of a set the split that `evaluate` takes is read, no other, and a folder that
several sets lie in is listed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.cards import CARDS
from motivnet_cli.evaluation.datasets.disk import Disk
from motivnet_cli.evaluation.datasets.read import card_named, read_dataset
from motivnet_cli.evaluation.datasets.roots import Places, given_root

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.card import DatasetCard
    from motivnet_cli.evaluation.datasets.layouts import Unit
    from motivnet_cli.evaluation.datasets.roots import Root

State = Literal["whole", "differs", "found", "unreadable", "not found"]
"""`found` is read, and no counts of its split were published; `unreadable` is in a place, and cannot be read there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetState:
    """What of a labelled set is on this machine."""

    name: str
    title: str
    state: State
    root: str | None = None
    """Absolute."""
    source: str | None = None
    """Who named the root."""
    layout: str | None = None
    split: str | None = None
    protocol: str | None = None
    images: int | None = None
    """With one of the seven emotions; of a set of clips, clips."""
    unit: Unit | None = None
    published: int | None = None
    """How many images the split has as published; None where that is not known."""
    details: tuple[str, ...] = ()
    """In what it departs from the published set, or why it cannot be read or was not found where it seems to be."""
    looked: tuple[str, ...] = ()
    """What each place had, where none has the set."""
    where: str
    """Where to ask for it."""


def states_of_all() -> list[SetState]:
    """The state of every set that has a name of its own.

    Raises:
        ConfigError: A `motivnet.toml` or MOTIVNET_DATASETS is wrong.
    """
    places = Places.here()
    return [_searched(card, places, None, None) for card in CARDS.values() if card.labels]


def state_of(name: str, root: str | None = None, *, split: str | None, protocol: str | None) -> SetState:
    """The state of one set, in a split and a protocol of it.

    Args:
        root: None looks for it.

    Raises:
        ConfigError: As `states_of_all`, or no set has this name.
    """
    card = card_named(name)
    if root is not None:
        return _read(card, given_root(root), split, protocol, Disk())
    return _searched(card, Places.here(), split, protocol)


def _searched(card: DatasetCard, places: Places, split: str | None, protocol: str | None) -> SetState:
    try:
        root, looked, others = places.search(card)
    except ConfigError as error:
        return _state_without(card, "unreadable", details=(str(error),))
    if root is not None:
        return _read(card, root, split, protocol, places.disk)
    details = tuple(f"no layout of the set is recognised in {path!r}" for path in others)
    return _state_without(card, "not found", details=details, looked=looked)


def _state_without(
    card: DatasetCard,
    state: State,
    *,
    root: Root | None = None,
    details: tuple[str, ...] = (),
    looked: tuple[str, ...] = (),
) -> SetState:
    return SetState(
        name=card.name,
        title=card.title,
        state=state,
        root=root.path if root else None,
        source=root.source if root else None,
        details=details,
        looked=looked,
        where=card.where,
    )


def _read(card: DatasetCard, root: Root, split: str | None, protocol: str | None, disk: Disk) -> SetState:
    try:
        found = read_dataset(card.name, root.path, split=split, protocol=protocol, disk=disk)
    except ConfigError as error:
        return _state_without(card, "unreadable", root=root, details=(str(error),))
    published = card.published(found.split, found.protocol)
    return SetState(
        name=card.name,
        title=card.title,
        state="differs" if found.departures else "whole" if published else "found",
        root=root.path,
        source=root.source,
        layout=found.layout,
        split=found.split,
        protocol=found.protocol,
        images=len(found.images),
        unit=found.unit,
        published=published[0].total if published else None,
        details=found.departures,
        where=card.where,
    )
