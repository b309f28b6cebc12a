"""Columns of a manifest that pass through to the output: their names there, and their values in one of four types."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import FACE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from motivnet_cli.config import KeptType
    from motivnet_cli.inputs.table import Table

    Fits = Callable[[pl.Series], bool]

log = logging.getLogger(__name__)

KEPT_PREFIX = "manifest_"
"""Before the name of a kept column whose own name is one of the output's."""
_MAX_EXACT_DIGITS = 15
"""Decimal digits that a float64 holds."""
_POLARS_TYPES: dict[KeptType, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
}


def _looks_like(pattern: str) -> Fits:
    return lambda values: bool(values.str.contains(pattern).all())


def _fits_int64(values: pl.Series) -> bool:
    return bool(values.cast(pl.Int64, strict=False).null_count() == values.null_count())


_TYPES_OF_TEXT: dict[KeptType, Fits] = {
    "int64": _looks_like(r"^-?(0|[1-9][0-9]{0,17})$"),
    "float64": _looks_like(r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]*)?([eE][-+]?[0-9]+)?$"),  # digits that a float64 holds
    "bool": _looks_like(r"^(?i:true|false)$"),
}
"""What all values of a column of text are if it is of the type; the first one counts."""


class KeptColumn:
    """A column whose values come chunk by chunk: what type holds them is known when all have come.

    Raises:
        ConfigError: They are of a type that cannot be kept.
    """

    def __init__(self, table: Table, name: str) -> None:
        dtype = table.type_of(name)
        self.name = name
        self.values = pl.col(name)
        """As they are held until their type is known: as text, as it stands there, where the table has no types."""
        self._type: KeptType = "string"
        self._possible: dict[KeptType, Fits] = {}
        """Types that all values so far have had, if it is not one of them already."""
        self._has_values = False
        if dtype == pl.Boolean:
            self._type = "bool"
        elif dtype == pl.String:
            self._possible = dict(_TYPES_OF_TEXT) if table.is_text else {}
        elif dtype in (pl.UInt64, pl.Int128, pl.UInt128):
            self.values, self._possible = self.values.cast(pl.String), {"int64": _fits_int64}
        elif dtype.is_integer():
            self.values, self._type = self.values.cast(pl.Int64), "int64"
        elif dtype.is_float() or (isinstance(dtype, pl.Decimal) and dtype.precision <= _MAX_EXACT_DIGITS):
            self.values, self._type = self.values.cast(pl.Float64), "float64"
        elif dtype == pl.Duration:
            self.values = self.values.dt.to_string()
        elif dtype.is_temporal() or dtype.is_numeric() or dtype in (pl.Categorical, pl.Enum, pl.Null):
            self.values = self.values.cast(pl.String)
        else:
            raise ConfigError(
                f"column {name!r} of the manifest {table.path!r} holds {dtype}: only text, numbers and bool are kept"
            )

    def note(self, values: pl.Series) -> None:
        """See the next values."""
        self._has_values |= values.null_count() < len(values)
        self._possible = {name: fits for name, fits in self._possible.items() if fits(values)}

    @property
    def type(self) -> KeptType | None:
        """That holds the values so far; None if there are none, and the table has no types."""
        if self._possible and not self._has_values:
            return None
        return next(iter(self._possible), self._type)


def cast(name: str, rows: pl.DataFrame, kept_type: KeptType) -> pl.Expr:
    """Values of a `KeptColumn` in a type that holds them.

    Args:
        name: What the column is called in `rows`.
    """
    if kept_type == "bool" and rows.schema[name] == pl.String:
        return pl.col(name).str.to_lowercase() == "true"
    return pl.col(name).cast(_POLARS_TYPES[kept_type])


def kept_name(name: str, keep: Sequence[str], own: Collection[str] = FACE_COLUMNS) -> str:
    """What a kept column is called in the output: `manifest_` stands before a name that the output has itself.

    Args:
        keep: All columns that are kept.
        own: Names that the output has itself.

    Raises:
        ConfigError: Another one of them is called so already.
    """
    if name.casefold() not in own:
        return name
    new = KEPT_PREFIX + name
    if new.casefold() in (other.casefold() for other in keep):
        raise ConfigError(f"keep names {name!r}, which the output calls {new!r}, and this one, too: rename one of them")
    log.info("the column %r of the manifest is called %r in the output", name, new)
    return new


def common_types(each: Sequence[Sequence[KeptType | None]]) -> list[KeptType]:
    """The types that hold the values of columns in all of some manifests.

    Args:
        each: Of each manifest, the types of the columns; None where one has no values.
    """
    return [_common_type({kept_type for kept_type in types if kept_type}) for types in zip(*each, strict=True)]


def _common_type(types: set[KeptType]) -> KeptType:
    """The type that holds the values of all of these."""
    if len(types) == 1:
        return next(iter(types))
    return "float64" if types == {"int64", "float64"} else "string"
