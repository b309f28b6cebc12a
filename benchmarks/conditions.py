"""Whether a face keeps its emotion when the head is tilted in the picture, or the light is dim.

Portraits of the people of `people.py` (`--people FOLDER`; without it the astronaut alone) are turned about the middle
of the face, and darkened: pixels are scaled in linear light (sRGB's curve) and rounded to 8 bits, as by a camera set
too dark; a real camera adds noise. Each is compared with the same portrait as it is, by `expression-net`: of how
many a face is found, how many keep the emotion, and how far its probability moves. This is agreement with itself, and
says nothing of how often either is right. The last line on stdout is the row as JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import parser, report, say
from people import load_people
from PIL import Image

from motivnet_cli import FaceConfig, load_model, predict

if TYPE_CHECKING:
    from people import Person

    from motivnet_cli import LoadedModel, PredictedFace

TILTS = (15, 30, 45)
"""Degrees, to both sides."""
LIGHTS = (4, 16, 64)
"""Parts of the light: a quarter of it about halves the values of the pixels."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--people", type=Path, help="folder of people.py")
    options = arguments.parse_args()
    people, model = load_people(options.people), load_model("expression-net")
    rows: dict[str, Any] = {}
    for align in (False, True):
        known = _faces([person.image for person in people], model, align=align)
        for tilt in TILTS:
            name = f"tilted {tilt} degrees" + (", aligned" if align else "")
            both = [_compared(known, [_tilted(each, turn) for each in people], model, align) for turn in (tilt, -tilt)]
            rows[name] = _summary(both[0] + both[1])
        for light in () if align else LIGHTS:
            rows[f"1/{light} of the light"] = _summary(
                _compared(known, [_dimmed(each, light) for each in people], model, align)
            )
    for name, row in rows.items():
        say(f"{name:30} {row}")
    report({"people": len(people), "conditions": rows}, record=options.record)


def _tilted(person: Person, degrees: float) -> Image.Image:
    x1, y1, x2, y2 = person.box
    ground = tuple(int(value) for value in np.asarray(person.image)[0, 0])
    return person.image.rotate(
        degrees, Image.Resampling.BICUBIC, center=((x1 + x2) / 2, (y1 + y2) / 2), fillcolor=ground
    )


def _dimmed(person: Person, divisor: int) -> Image.Image:
    values = np.asarray(person.image) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) / divisor
    back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return Image.fromarray(np.rint(back * 255).astype(np.uint8))


def _faces(images: list[Image.Image], model: LoadedModel, *, align: bool) -> list[PredictedFace | None]:
    """The largest face of each picture."""
    found = predict(images, model, faces=FaceConfig(align=align, max_faces=1))
    return [picture.faces[0] if picture.faces else None for picture in found]


def _compared(
    known: list[PredictedFace | None], images: list[Image.Image], model: LoadedModel, align: bool
) -> list[tuple[bool, bool, float]]:
    """Of each picture: whether a face was found, with the same emotion, and how far its probability is."""
    rows = []
    for before, face in zip(known, _faces(images, model, align=align), strict=True):
        assert before is not None
        assert before.emotion is not None
        if face is None:
            rows.append((False, False, np.nan))
        else:
            moved = face.probabilities[before.emotion] - before.probabilities[before.emotion]
            rows.append((True, face.emotion == before.emotion, abs(moved)))
    return rows


def _summary(rows: list[tuple[bool, bool, float]]) -> dict[str, Any]:
    found, same, moved = zip(*rows, strict=True)
    return {
        "pictures": len(rows),
        "found": sum(found),
        "same_emotion": sum(same),
        "mean_move": round(float(np.nanmean(moved)), 3),
    }


if __name__ == "__main__":
    main()
