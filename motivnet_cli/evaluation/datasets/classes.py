"""How labelled sets and tools spell the classes: one table of synonyms and misspellings, for every set.

A word that is not in the table names nothing. Whoever reads it must then refuse or ask: a class that is left out makes
the figures of the others wrong in silence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

CONTEMPT: Final = "contempt"
"""The eighth class of some sets, none of the seven emotions."""

SYNONYMS: Final[dict[str, str]] = {
    **{name: name for name in (*EMOTIONS, CONTEMPT)},
    **dict.fromkeys(("ne", "neu", "neutrality", "neutral face", "netural", "nuetral", "neutal"), "neutral"),
    **dict.fromkeys(("ha", "hap", "happy", "joy", "joyful", "happines", "hapiness", "happyness"), "happiness"),
    **dict.fromkeys(("sa", "sad", "sadnes", "saddness", "sadeness"), "sadness"),
    **dict.fromkeys(("su", "sur", "surprised", "surprize", "surprized", "surpised", "surpise"), "surprise"),
    **dict.fromkeys(("suprise", "suprised", "suprized", "suprize", "surprice", "surpries"), "surprise"),
    **dict.fromkeys(("fe", "fea", "af", "afr", "fearful", "afraid", "scared", "feared"), "fear"),
    **dict.fromkeys(("di", "dis", "disgusted", "disguest", "disguist", "disguisted", "digust"), "disgust"),
    **dict.fromkeys(("an", "ang", "angry", "angery", "angary", "anrgy"), "anger"),
    **dict.fromkeys(("contemptuous", "contemptous", "contemp", "comtempt"), CONTEMPT),
}
"""Spelling in lower case -> emotion, or `contempt`. Misspellings are those of public copies, and near ones."""

MISSING_LABELS: Final = frozenset({"", "nan", "null", "none", "na", "n/a"})
"""What programs write, in any case, into a table of labels of any class for one that is not there."""


def are_emotions(classes: Collection[str]) -> bool:
    """Whether classes are the seven emotions, perhaps with contempt: those of the sets and of published figures."""
    return set(EMOTIONS) <= set(classes) <= {*EMOTIONS, CONTEMPT}


def refuse_contempt(classes: Collection[str]) -> None:
    """Raise a ConfigError: contempt was asked for beside classes that are not the seven emotions."""
    raise ConfigError(
        f"--contempt is an eighth class beside the seven emotions, and the classes are {', '.join(classes)}: leave it "
        "out"
    )


def emotion_named(label: str) -> str | None:
    """The emotion, or `contempt`, that a folder or cell names: `Happy`, `1_happiness`, `02. Suprise`; else None."""
    word = re.sub(r"^\d+[\s_.-]+", "", label.strip().casefold())
    return SYNONYMS.get(re.sub(r"[\s_-]+", " ", word))


# ---- numbers ----------------------------------------------------------------------------------------------


class Numbering(NamedTuple):
    """One way to read the numbers of classes."""

    name: str
    classes: Mapping[str, str]
    """Number -> emotion, or why such faces are dropped."""


_BY_NAME = ("anger", CONTEMPT, "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""In the order of the alphabet, by which loaders number class folders; `angry`, `happy` and `sad` change nothing."""
_IN_USE = (
    Numbering("AffectNet's order (and MotivNet's)", {str(i): name for i, name in enumerate((*EMOTIONS, CONTEMPT))}),
    Numbering(
        "FER2013's order",
        {
            **{"0": "anger", "1": "disgust", "2": "fear", "3": "happiness", "4": "sadness", "5": "surprise"},
            **{"6": "neutral", "7": CONTEMPT},
        },
    ),
    Numbering(
        "RAF-DB's order, from 1",
        dict(zip("1234567", ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), strict=True)),
    ),
)
"""Of sets that number their classes, for tables and folders that are of no known set. FER2013 has no
contempt; tables of other faces in its form, such as ckextended.csv, count it as 7."""


def is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()


def readings(
    labels: Mapping[str, str], name: str, numbers: Collection[str], *, are_its_own: bool = True
) -> Iterator[Numbering]:
    """The ways to read these numbers: the set's own first, if it has all of them.

    Args:
        labels: The set's own labels, numbers among them or none.
        name: Of the set.
        numbers: Those that occur.
        are_its_own: Whether it is the set that numbers them. Another source may have any order that is in use.
    """
    own = {label: meaning for label, meaning in labels.items() if is_number(label)}
    known = [each for each in _own_and_moved(own, name) if _has(each, numbers)] if own else []
    if not known or not are_its_own:
        known += _IN_USE
    seven = {str(i): emotion for i, emotion in enumerate(emotion for emotion in _BY_NAME if emotion != CONTEMPT)}
    eight = {str(i): emotion for i, emotion in enumerate(_BY_NAME)}
    known.append(Numbering("the order of the alphabet", seven if set(numbers) <= set(seven) else eight))
    seen: list[dict[str, str]] = []
    for each in known:
        if _has(each, numbers) and (meanings := {number: each.classes[number] for number in numbers}) not in seen:
            seen.append(meanings)
            yield each


def _has(numbering: Numbering, numbers: Collection[str]) -> bool:
    return set(numbers) <= set(numbering.classes)


def _own_and_moved(own: Mapping[str, str], name: str) -> Iterator[Numbering]:
    """A set's numbers, and the same order counted from 0 if the set counts from 1, or from 1 if it does from 0."""
    first = min(map(int, own))
    other = 1 - first
    yield Numbering(f"{name}'s own numbers, from {first}", own)
    moved = {str(int(label) + other - first): meaning for label, meaning in own.items()}
    yield Numbering(f"{name}'s order counted from {other}", moved)


def is_certain(labels: Mapping[str, str], numbers: Collection[str]) -> bool:
    """Whether numbers can only be the set's own: it has all of them, and counted one higher or lower it has not.

    RAF-DB's are 1 to 7: the folders 1 to 7 are certain, 0 to 6 are not its own, and 1 to 6 could be either.
    """
    return _fit(labels, numbers) == (True, False)


def are_moved(labels: Mapping[str, str], numbers: Collection[str]) -> bool:
    """Whether numbers can only be the set's order counted one higher or lower: RAF-DB's from 0, say."""
    return _fit(labels, numbers) == (False, True)


def _fit(labels: Mapping[str, str], numbers: Collection[str]) -> tuple[bool, bool]:
    """Whether the set has all of these numbers, and whether its order counted otherwise has."""
    numbered = {label: meaning for label, meaning in labels.items() if is_number(label)}
    if not numbered:
        return False, False
    own, moved = _own_and_moved(numbered, "")
    return _has(own, numbers), _has(moved, numbers)
