"""What all pages share: templates, thumbnails, numbers as text, and the environment."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from PIL import Image

from motivnet_cli.config import MAX_PIXELS
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motivnet_cli.records import Box


THUMBNAIL_PIXELS = 224
"""The longer side: sharp at twice the density of the 112 CSS pixels that it is shown at, and about 10 kB."""


def thumbnail(mistake: Mapping[str, Any]) -> str | None:
    """A data URI of the face; None where the image is no local file or can no longer be read."""
    path = mistake["path"]
    if path is None or "://" in path:
        return None
    try:
        picture = Image.fromarray(decode(path, max_pixels=MAX_PIXELS).rgb)
    except InputError:
        return None
    return small_jpeg(cut_to(picture, mistake.get("box")))


def cut_to(picture: Image.Image, box: Box | None) -> Image.Image:
    """The part within the box; all of it where there is no box, or it lies outside."""
    if box is None:
        return picture
    x1, y1, x2, y2 = (round(edge) for edge in box)
    within = (max(x1, 0), max(y1, 0), min(x2, picture.width), min(y2, picture.height))
    return picture.crop(within) if within[0] < within[2] and within[1] < within[3] else picture


def small_jpeg(picture: Image.Image) -> str:
    """The picture, shrunk to THUMBNAIL_PIXELS, within an address."""
    picture = picture.copy()
    picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return data_uri(file.getvalue(), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """The bytes as an address that a page holds within itself."""
    return f"data:{media_type};base64,{b64encode(content).decode('ascii')}"


def percent(share: float | None) -> str:
    return "\N{EN DASH}" if share is None else f"{100 * share:.2f}"


def _number(value: float | None, form: str) -> str:
    return percent(value) if form == "percent" or value is None else f"{value:.3f}"


def _interval(headline: Mapping[str, float | None], form: str = "percent") -> str:
    return f"{_number(headline['low'], form)}\N{EN DASH}{_number(headline['high'], form)}"


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names with one value each."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _markdown(value: object) -> object:
    """Escape what Markdown or a table's cell would take for its own, in every value that a template puts out."""
    if isinstance(value, Markup):
        return value
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", re.sub(r"\s+", " ", str(value)))


def _latex(value: object) -> object:
    """As `_markdown`, for LaTeX."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\N{EN DASH}": "--",
        "[": "{[}",
    }
    return re.sub(
        r"[\\~^&%$#_{}\[\N{EN DASH}]",
        lambda found: special.get(found[0], "\\" + found[0]),
        re.sub(r"\s+", " ", str(value)),
    )


def _environment(**options: Any) -> jinja2.Environment:  # noqa: ANN401 - handed on to jinja2
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("motivnet_cli", "assets"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    environment.filters |= {
        "percent": percent,
        "number": _number,
        "interval": _interval,
        "settings": lambda values: list(_settings(values)),
        "count": lambda number: f"{number:,}",
        "indented": lambda text: Markup("\n".join(f"    {line}" for line in text.splitlines())),
    }
    return environment


PAGES = _environment(autoescape=True)
"""Templates of every HTML page of ours."""
MARKDOWN = _environment(autoescape=False, finalize=_markdown, keep_trailing_newline=True)
LATEX = _environment(
    autoescape=False,
    finalize=_latex,
    keep_trailing_newline=True,
    variable_start_string="<<",
    variable_end_string=">>",
    block_start_string="<%",
    block_end_string="%>",
    comment_start_string="<#",
    comment_end_string="#>",
)
