"""How labelled sets and tools spell the classes: one table of synonyms and misspellings, for every set.

A word that is not in the table names nothing. Whoever reads it must then refuse or ask: a class that is left out makes
the figures of the others wrong in silence.
"""

from __future__ import annotations

import re
from typing import Final

from motivnet_cli.records import EMOTIONS

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


def emotion_named(label: str) -> str | None:
    """The emotion, or `contempt`, that a folder or cell names: `Happy`, `1_happiness`, `02. Suprise`; else None."""
    word = re.sub(r"^\d+[\s_.-]+", "", label.strip().casefold())
    return SYNONYMS.get(re.sub(r"[\s_-]+", " ", word))
