"""The description of a labelled set: what its card says, and the counts that were published of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Faces = Literal["whole", "given", "auto"]
"""Whether the images are face crops, come with boxes, or have a face that is to be found."""


@dataclass(frozen=True, slots=True)
class Published:
    """How many images a split has, as its authors or other papers report."""

    split: str
    total: int | None
    """With one of the seven emotions; None where it is not known."""
    by_emotion: tuple[int, ...] | None = None
    """In the order of EMOTIONS."""
    with_contempt: tuple[int, ...] = ()
    """Totals with contempt as an eighth class; any of them is right."""
    protocol: str | None = None
    """None for every protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCard:
    """What a user should know of a set before reporting on it, and what its reader needs to know."""

    name: str
    title: str
    layouts: tuple[str, ...]
    """What is looked for, in this order."""
    labels: dict[str, str]
    """The set's own labels, in lower case -> emotion, or the reason why such faces are dropped. Empty where any
    spelling of the emotions' names is accepted."""
    faces: Faces
    splits: tuple[str, ...]
    default_split: str
    split_words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> what copies call it, keys of `by_class.SPLIT_WORDS`, the likeliest first; without an entry, its name."""
    protocols: dict[str, str] = field(default_factory=dict)
    """Name -> what is evaluated."""
    default_protocol: str | None = None
    counts: tuple[Published, ...] = ()
    terms: str
    where: str
    """Where to request it."""
    folders: tuple[str, ...] = ()
    """How its folder is usually called, to find it by. Case, spaces, dots, dashes and underscores do not count."""
    notes: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Images of the user's own, which no set is called after."""
        return self.where == "yourself"

    def published(self, split: str, protocol: str | None) -> list[Published]:
        """The counts of a split that hold under this protocol; none where they are not known."""
        return [each for each in self.counts if each.split == split and each.protocol in (None, protocol)]

    def words_of(self, split: str) -> tuple[str, ...]:
        """What copies call a split."""
        return self.split_words.get(split, (split,))
