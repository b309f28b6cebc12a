"""The text of `--help`: plain, in groups, as wide as the terminal.

The group of an argument, an option or a command is its `rich_help_panel`. What an option takes is its metavar, as
people write it: `FILE`, `SECONDS`, `auto|N`.
"""

from __future__ import annotations

import inspect
import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

OTHER = "Other actions"
"""What a command does in place of its work."""
GENERAL = "General"
_LAST = ("Machine", "Cluster", OTHER, "Log", GENERAL)
"""Groups that come after all others, in whatever order their options are declared."""
_WIDEST = 120
"""Columns of text on a wider terminal."""
_NAMES = 26
"""The widest column of names: text below a longer name starts on a line of its own."""
_IN_WORDS = {
    "N": "a whole number",
    "NUMBER": "a number",
    "PERCENT": "a number",
    "PIXELS": "a whole number of pixels",
    "RATE": "a number",
    "SCORE": "a number from 0 to 1",
    "SECONDS": "a number of seconds",
    "MINUTES": "a number of minutes",
    "DEGREES": "a number of degrees",
    "SHARE": "a number from 0 to 1",
}
"""Metavars of numbers, in messages."""


def page(command: TyperCommand | TyperGroup, ctx: Context) -> str:
    """How a command is called, what it does, and what it takes."""
    width = text_width()
    found = groups(command, ctx)
    column = min(max(len(name) for rows in found.values() for name, _ in rows), _NAMES) + 4
    lines = [*wrapped(f"Usage: {usage(command, ctx)}", width, hang=7), "", *_paragraphs(command.help or "", width)]
    for title, rows in found.items():
        lines += ["", f"{title}:", *_table(rows, column, width)]
    if command.epilog:
        lines += ["", *_paragraphs(command.epilog, width)]
    return "\n".join(lines)


def groups(command: TyperCommand | TyperGroup, ctx: Context) -> dict[str, list[tuple[str, str]]]:
    """What stands below each heading: commands, arguments and options, each with its text."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for each in getattr(command, "commands", {}).values():
        if not each.hidden:
            groups.setdefault(each.rich_help_panel or "Commands", []).append((each.name, summary(each)))
    for each in _parameters(command, ctx):
        title = each.rich_help_panel or ("Arguments" if _is_argument(each) else "Options")
        groups.setdefault(title, []).append((_names(each), _text(each)))
    order = sorted(groups, key=lambda title: _LAST.index(title) if title in _LAST else -1)
    return {title: groups[title] for title in order}


def text_width() -> int:
    """Columns of running text on this terminal."""
    return min(shutil.get_terminal_size().columns, _WIDEST)


def usage(command: TyperCommand | TyperGroup, ctx: Context) -> str:
    """How a command is called: with its arguments, and the options that it must have."""
    words = [ctx.command_path, *(["COMMAND"] if hasattr(command, "commands") else [])]
    parameters = _parameters(command, ctx)
    words += [_names(each) for each in parameters if _is_argument(each)]
    words += [f"{long_name(each)} {each.metavar}" for each in parameters if each.required and not _is_argument(each)]
    return " ".join([*words, "[OPTIONS]"])


def summary(command: TyperCommand | TyperGroup) -> str:
    """What a command does: the first paragraph of its help, whole."""
    return " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split())


def _parameters(command: TyperCommand | TyperGroup, ctx: Context) -> list[TyperArgument | TyperOption]:
    parameters: list[TyperArgument | TyperOption] = command.get_params(ctx)  # type: ignore[assignment]
    return [each for each in parameters if not each.hidden]


def long_name(parameter: TyperArgument | TyperOption) -> str:
    """--out of an option that is also -o, and the metavar of an argument."""
    return (parameter.metavar or parameter.name.upper()) if _is_argument(parameter) else max(parameter.opts, key=len)


def choices(parameter: TyperArgument | TyperOption) -> list[str]:
    """The words that its metavar names, beside those in capitals, which stand for others: auto of auto|PIXELS."""
    return [word for word in (parameter.metavar or "").split("|") if re.fullmatch(r"[a-z][a-z0-9.-]*", word)]


def wanted(parameter: TyperArgument | TyperOption) -> str:
    """What it takes, in words."""
    *words, last = (_IN_WORDS.get(word, word) for word in (parameter.metavar or "").split("|"))
    kinds = f"{', '.join(words)} or {last}" if words else last
    least = _least(parameter)
    return kinds if least is None else f"{kinds} of at least {least:g}"


def _least(parameter: TyperArgument | TyperOption) -> float | None:
    """The smallest number that it takes; Typer has moved where this is written."""
    least: float | None = getattr(parameter, "min", None) or getattr(getattr(parameter, "type", None), "min", None)
    return least


def _is_argument(parameter: TyperArgument | TyperOption) -> bool:
    return parameter.param_type_name == "argument"


def _names(parameter: TyperArgument | TyperOption) -> str:
    """-o, --out FILE; --align/--no-align; INPUT..., in brackets if none is needed. --track is off: --no-track goes
    without saying.
    """
    if _is_argument(parameter):
        name = long_name(parameter)
        name += "..." if parameter.nargs != 1 and not name.endswith("...") else ""
        return name if parameter.required else f"[{name}]"
    *short, long = sorted(parameter.opts, key=len)
    negations = [] if parameter.default is False else parameter.secondary_opts
    names = ", ".join([*short, "/".join([long, *negations])])
    return names if parameter.is_flag else f"{names} {parameter.metavar or 'TEXT'}"  # type: ignore[union-attr]


def _text(parameter: TyperArgument | TyperOption) -> str:
    """What it is for, followed by what else has to be known, in sentences."""
    sentences = [parameter.help or ""]
    if getattr(parameter, "multiple", False):
        sentences.append("May be repeated.")
    if parameter.required and not _is_argument(parameter):
        sentences.append("Required.")
    if default := _default(parameter):
        sentences.append(f"Default: {default}.")
    if parameter.envvar:
        sentences.append(f"Environment variable: {parameter.envvar}.")
    return " ".join(filter(None, sentences))


def _default(parameter: TyperArgument | TyperOption) -> str:
    """What holds where it is not given, as it would be typed; nothing for what is then left undone."""
    value = parameter.default
    if value is None or not parameter.show_default:
        return ""
    if isinstance(value, bool):
        return max(parameter.opts, key=len) if value and parameter.secondary_opts else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[tuple[str, str]], column: int, width: int) -> Iterator[str]:
    """Names, and from a column on their texts."""
    for name, text in rows:
        first, *rest = textwrap.wrap(text, width - column, break_on_hyphens=False, break_long_words=False) or [""]
        if len(name) + 4 > column:
            yield f"  {name}"
            yield f"{'':{column}}{first}"
        else:
            yield f"  {name}".ljust(column) + first
        yield from (f"{'':{column}}{line}" for line in rest)


def _paragraphs(text: str, width: int) -> list[str]:
    """The text, wrapped. An indented line, such as a command to copy, stays a line of its own."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines += [""] if lines else []
        for is_indented, group in itertools.groupby(paragraph.splitlines(), key=lambda line: line.startswith(" ")):
            block = list(group)
            lines += block if is_indented else wrapped(" ".join(block), width)
    return lines


def wrapped(text: str, width: int, *, hang: int = 0) -> list[str]:
    """The text in lines of at most this width, but for longer words; `hang` blanks before all but the first."""
    return textwrap.wrap(text, width, subsequent_indent=" " * hang, break_on_hyphens=False, break_long_words=False)
