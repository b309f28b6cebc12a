"""Predictions as a file of SPSS (.sav) or Stata (.dta), with value labels and variable labels; made in memory."""

from __future__ import annotations

import importlib
import logging
import re
import textwrap
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.export.tables import as_cells
from motivnet_cli.records import FACE_SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import ModuleType

    from motivnet_cli.export.source import Source

log = logging.getLogger(__name__)

MAX_NAME = 30
"""Bytes of a variable's name. Stata takes 32 characters, also for the name of its value labels, which has a number."""
MAX_LABEL = 80
"""Characters of a variable's label, in Stata; SPSS shows 256 bytes."""
MAX_EXACT = 2**53 - 1
"""Up to it a float64 holds every whole number, and no other one becomes the same."""
MAX_TEXT = {"sav": 32_767, "dta": 2_045}
"""Bytes of a text variable."""
# SPSS: Command Syntax Reference, "Variable Names". Stata: help reswords.
_RESERVED = re.compile(
    "all|and|by|eq|ge|gt|le|lt|ne|not|or|to|with|byte|double|float|if|in|int|long|using|str[0-9]+|strl", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Variables:
    """The columns of a file, under names that SPSS and Stata allow."""

    rows: pl.DataFrame
    """Text, float64, and Int32 where values have labels."""
    labels: dict[str, str]
    """What a variable is."""
    value_labels: dict[str, dict[int, str]]
    """What the values 0, 1, ... of a variable are called."""
    whole: frozenset[str]
    """Those of float64 that hold whole numbers."""


def write_sav(source: Source, out: Path) -> None:
    """Write one file for SPSS.

    Raises:
        ConfigError: pyreadstat is not installed, or a column does not fit the format.
        OSError: The file cannot be written.
    """
    library = _library("sav")
    table = _variables(source, "sav")
    numbers = table.rows.select(pl.col(pl.Float64)).columns
    with_labels = dict.fromkeys((*table.value_labels, *table.rows.select(pl.col(pl.String)).columns), "nominal")
    try:
        library.write_sav(
            table.rows,
            out.absolute(),
            column_labels=table.labels,
            variable_value_labels=table.value_labels,
            variable_measure=with_labels | dict.fromkeys(numbers, "scale"),
            variable_format={name: "F12.0" if name in table.whole else "F12.4" for name in numbers},
        )
    except library.ReadstatError as error:
        raise OSError(str(error)) from error


def write_dta(source: Source, out: Path) -> None:
    """Write one file for Stata, in the format of Stata 14 (118): that of 15 (119) is for more than 32,767 variables.

    Raises:
        ConfigError: pyreadstat is not installed, or a column does not fit the format.
        OSError: The file cannot be written.
    """
    library = _library("dta")
    table = _variables(source, "dta")
    try:
        library.write_dta(
            table.rows,
            out.absolute(),
            version=14,
            column_labels=table.labels,
            variable_value_labels=table.value_labels,
        )
    except library.ReadstatError as error:
        raise OSError(str(error)) from error


def _library(to: str) -> ModuleType:
    try:
        return importlib.import_module("pyreadstat")
    except ImportError as error:
        raise ConfigError(f"{to} needs pyreadstat: pip install 'motivnet-cli[stats]'") from error


def _variables(source: Source, to: str) -> _Variables:
    rows = as_cells(source.lazy(), to).collect(engine="streaming")
    whole = [name for name, kind in rows.schema.items() if kind.is_integer() and _is_exact(rows[name])]
    long = [name for name, kind in rows.schema.items() if kind.is_integer() and name not in whole]
    values: dict[str, list[str]] = {name: ["false", "true"] for name in rows.select(pl.col(pl.Boolean)).columns}
    for name, known in {"emotion": source.classes, "face_source": FACE_SOURCES}.items():
        if name in rows.columns:
            values[name] = list(dict.fromkeys((*known, *rows[name].drop_nulls().unique().sort())))
    rows = rows.with_columns(
        pl.col(whole).cast(pl.Float64),
        pl.col(long).cast(pl.String),
        *(
            pl.col(name).cast(pl.String).replace_strict(labels, range(len(labels)), return_dtype=pl.Int32)
            for name, labels in values.items()
        ),
    )
    for column in rows.select(pl.col(pl.String)):
        if (column.str.len_bytes() > MAX_TEXT[to]).any():
            raise ConfigError(
                f"column {column.name!r} has a text of more than {MAX_TEXT[to]:,} bytes, which {to} cannot hold; leave "
                "it out with --columns, or choose csv or xlsx"
            )
    names = _allowed_names(rows.columns)
    if changed := [f"{name!r} is {new}" for name, new in names.items() if name != new]:
        log.warning(f"SPSS and Stata do not allow some names of columns, so they are changed: {', '.join(changed)}")
    docs = {field.name: (field.metadata or {}).get(b"doc", b"").decode() for field in source.schema}
    return _Variables(
        rows=rows.rename(names),
        labels={new: _label(name if name != new else "", docs.get(name, "")) for name, new in names.items()},
        value_labels={names[name]: dict(enumerate(labels)) for name, labels in values.items()},
        whole=frozenset(names[name] for name in whole),
    )


def _is_exact(column: pl.Series) -> bool:
    return bool((column.cast(pl.Float64).abs() <= MAX_EXACT).all())


def _allowed_names(names: Iterable[str]) -> dict[str, str]:
    """For each name one that SPSS and Stata allow, and that is another than those before it, whatever their case."""
    allowed: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        wanted = "".join(c if c.isalpha() or c in "_0123456789" else "_" for c in unicodedata.normalize("NFC", name))
        if not wanted[:1].isalpha():
            wanted = f"v{wanted}"
        if _RESERVED.fullmatch(wanted):
            wanted += "_"
        new, number = _cut(wanted, MAX_NAME), 2
        while new.casefold() in taken:
            suffix = f"_{number}"
            new, number = _cut(wanted, MAX_NAME - len(suffix)) + suffix, number + 1
        taken.add(new.casefold())
        allowed[name] = new
    return allowed


def _cut(name: str, num_bytes: int) -> str:
    return name.encode()[:num_bytes].decode(errors="ignore")


def _label(name: str, doc: str) -> str:
    text = ": ".join(filter(None, (name, re.sub("[`*]", "", doc))))
    return textwrap.shorten(text, MAX_LABEL, placeholder=" ...")
