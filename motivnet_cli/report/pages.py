"""What all reports share: the template environments of HTML, Markdown and LaTeX, numbers as text, thumbnails."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup
from PIL import Image

from motivnet_cli.config import MAX_PIXELS
from motivnet_cli.errors import InputError, one_line
from motivnet_cli.evaluation.results import to_json
from motivnet_cli.inputs.decode import decode
from motivnet_cli.inputs.picture_processes import PictureProcesses
from motivnet_cli.report.comparisons import words_on_groups, words_on_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.evaluation.results import JSON, Interval
    from motivnet_cli.records import Box

THUMBNAIL_PIXELS = 224
"""The longer side: sharp at twice the density of the 112 CSS pixels that it is shown at, and about 10 kB."""


def picture_processes() -> PictureProcesses:
    """What decodes the pictures of a page that are not decoded here: one for many of them, closed by its block."""
    return PictureProcesses(max_pixels=MAX_PIXELS)


def thumbnail(path: str, box: Box | None, processes: PictureProcesses) -> str | None:
    """A data URI of the part of a picture within the box; None where the file can no longer be read."""
    try:
        picture = Image.fromarray(decode(path, max_pixels=MAX_PIXELS, apart=processes.decode).rgb)
    except InputError:
        return None
    return small_jpeg(cut_to(picture, box))


def cut_to(picture: Image.Image, box: Box | None) -> Image.Image:
    """The part within the box; all of it where there is no box, or it lies outside."""
    if box is None:
        return picture
    x1, y1, x2, y2 = (round(edge) for edge in box)
    within = (max(x1, 0), max(y1, 0), min(x2, picture.width), min(y2, picture.height))
    return picture.crop(within) if within[0] < within[2] and within[1] < within[3] else picture


def small_jpeg(picture: Image.Image) -> str:
    """The picture as a data URI, shrunk to THUMBNAIL_PIXELS."""
    picture = picture.copy()
    picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return data_uri(file.getvalue(), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """The bytes as a URI, so that a page needs no other file."""
    return f"data:{media_type};base64,{b64encode(content).decode('ascii')}"


def percent(share: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "\N{EN DASH}" if share is None else f"{100 * share:.2f}"


def whole_percent(share: float) -> str:
    """A share in whole percent; never 0 or 100 for what is only nearly so."""
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return "<1 %" if share < 0.5 else ">99 %"
    return f"{100 * share:.0f} %"


def clock(seconds: float, length_s: float = 0.0) -> str:
    """A time in a recording of this length: `12.5 s` in short ones, else `1:05`, `1:01:05`."""
    if length_s < 120:
        return f"{round(seconds, 2):g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float | None, form: str) -> str:
    return percent(value) if form == "percent" or value is None else f"{value:.3f}"


def _interval(figure: Interval, form: str = "percent") -> str:
    if figure.low is None or figure.high is None:
        return "no interval"
    low, high = _number(figure.low, form), _number(figure.high, form)
    return f"{low} to {high}" if "-" in low + high else f"{low}\N{EN DASH}{high}"


def sentence(text: str) -> str:
    """With a capital at its start, and the rest as it is: `NLL` stays `NLL`."""
    return text[:1].upper() + text[1:]


def _settings(values: object) -> list[tuple[str, str]]:
    return list(_flat(to_json(values)))


def _flat(value: JSON, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names with one value each."""
    if isinstance(value, dict) and (value or not name):
        for key, member in value.items():
            yield from _flat(member, f"{name}.{key}" if name else key)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _visible(value: object) -> object:
    """A value of a template without what would not be seen on a page, or would turn the direction of what follows."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(each if each.isprintable() or each in "\n\t" else one_line(each) for each in value)


def _markdown(value: object) -> object:
    """A value of a template with everything escaped that means something in Markdown or ends a cell of a table."""
    if isinstance(value, Markup):
        return value
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", one_line(re.sub(r"\s+", " ", str(value))))


def _latex(value: object) -> object:
    """The same for LaTeX."""
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
        one_line(re.sub(r"\s+", " ", str(value))),
    )


def _prepared(environment: jinja2.Environment) -> jinja2.Environment:
    environment.loader = jinja2.PackageLoader("motivnet_cli", "assets")
    environment.undefined = jinja2.StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {
        "percent": percent,
        "number": _number,
        "interval": _interval,
        "sentence": sentence,
        "settings": _settings,
        "words_on_groups": words_on_groups,
        "words_on_sets": words_on_sets,
        "count": lambda number: f"{number:,}",
        "clock": clock,
        "whole_percent": whole_percent,
        "indented": lambda text: Markup("\n".join(f"    {_visible(line)}" for line in text.splitlines())),
    }
    return environment


PAGES = _prepared(jinja2.Environment(autoescape=True, finalize=_visible))
"""HTML."""
MARKDOWN = _prepared(jinja2.Environment(autoescape=False, finalize=_markdown, keep_trailing_newline=True))
LATEX = _prepared(
    jinja2.Environment(
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
)
