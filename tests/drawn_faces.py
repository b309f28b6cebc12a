"""Faces drawn with a few strokes, one way of drawing for each of the seven emotions: to be learned within minutes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from motivnet_cli.records import EMOTIONS

_FEATURES = {
    # mouth: "line", "smile", "frown", "open"; brows: fall of the inner end, in shares of the face; height of the eyes
    "neutral": ("line", 0.0, 0.05),
    "happiness": ("smile", 0.0, 0.05),
    "sadness": ("frown", -0.08, 0.05),
    "surprise": ("open", 0.0, 0.11),
    "fear": ("open", -0.08, 0.05),
    "disgust": ("line", 0.08, 0.02),
    "anger": ("frown", 0.08, 0.05),
}


def draw_face(emotion: str, rng: np.random.Generator, *, jitter: float = 1.0) -> Image.Image:
    """One face on a ground, darker or lighter each time, and a little larger or smaller, higher or lower.

    Args:
        jitter: How far size and place differ; 0 for not at all.
    """
    mouth, fall, eye = _FEATURES[emotion]
    side = 112
    scale = side * (0.85 + jitter * rng.uniform(-0.1, 0.1))
    x0, y0 = (side - scale) / 2 + jitter * rng.uniform(-0.06, 0.06, size=2) * side
    skin, ground = (tuple(int(c) for c in rng.integers(*ends, size=3)) for ends in ((150, 240), (0, 110)))
    image = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(image)

    def at(*places: float) -> list[float]:
        return [start + scale * place for start, place in zip([x0, y0] * (len(places) // 2), places, strict=True)]

    width = max(1, round(scale * rng.uniform(0.03, 0.05)))
    draw.ellipse(at(0.08, 0.0, 0.92, 1.0), fill=skin)
    for x, outwards in ((0.32, -1), (0.68, 1)):
        draw.ellipse(at(x - 0.07, 0.4 - eye, x + 0.07, 0.4 + eye), fill=(20, 20, 30))
        outer, inner = x + 0.1 * outwards, x - 0.1 * outwards
        draw.line(at(outer, 0.25 - fall / 2, inner, 0.25 + fall / 2), fill=(40, 25, 15), width=width)
    if mouth == "line":
        draw.line(at(0.34, 0.75, 0.66, 0.75), fill=(120, 20, 30), width=width)
    elif mouth == "open":
        draw.ellipse(at(0.4, 0.64, 0.6, 0.86), fill=(120, 20, 30))
    elif mouth == "smile":
        draw.arc(at(0.3, 0.55, 0.7, 0.82), 15, 165, fill=(120, 20, 30), width=width)
    else:
        draw.arc(at(0.3, 0.7, 0.7, 0.97), 195, 345, fill=(120, 20, 30), width=width)
    return image


def draw_faces(
    folder: Path | str, number: int, *, seed: int = 0, jitter: float = 1.0, by_emotion: bool = False
) -> list[str]:
    """Write so many drawings, `000.png` and on, each emotion as often as the others; returns their emotions.

    Args:
        jitter: As of `draw_face`.
        by_emotion: Into a folder of its own for each.
    """
    rng = np.random.default_rng(seed)
    emotions = [EMOTIONS[i % len(EMOTIONS)] for i in range(number)]
    for i, emotion in enumerate(emotions):
        path = Path(folder, *([emotion] if by_emotion else []), f"{i:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_face(emotion, rng, jitter=jitter).save(path)
    return emotions
