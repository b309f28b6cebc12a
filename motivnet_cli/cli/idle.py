"""Options that can have no effect together with the others: typed ones are refused, those of a file wait."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from motivnet_cli.errors import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_Options = Mapping[str, Any]
"""Values of a command's options, by the names of parameters."""


class _Use(NamedTuple):
    """What some options need to have an effect."""

    parameters: tuple[str, ...]
    can_act: Callable[[_Options], object]
    purpose: str
    """What they are for, in words."""


_KEPT = ("overwrite", "retry_failed", "extend", "hash_contents", "commit_seconds", "as_json")
_NETWORK = ("model", "weights", "store", "accept_terms", "device", "batch_size", "threads", "faces")
_USES: dict[tuple[str, ...], tuple[_Use, ...]] = {
    ("annotate",): (
        _Use(("path_column", "box_columns"), lambda given: given["manifest"], "--manifest"),
        _Use(
            ("allow_scheme",),
            lambda given: given["manifest"] or given["files_from"] or given["files0_from"],
            "--manifest, --files-from and --files0-from",
        ),
        _Use(("stream_format",), lambda given: given["out"] == "-", "rows on stdout (--out -)"),
        _Use(_KEPT, lambda given: given["out"] != "-", "an output that is kept, and --out - keeps none"),
        _Use(
            ("detector", "detection_size", "min_confidence"),
            lambda given: given["faces"] != "whole",
            "faces that are looked for, and --faces whole looks for none",
        ),
        _Use(("detection_size",), lambda given: given["detector"] == "retinaface", "--detector retinaface"),
    ),
    ("evaluate",): (_Use(_NETWORK, lambda given: not given["predictions"], "a network, and --predictions runs none"),),
    ("export", "predictions"): (
        _Use(("as_json",), lambda given: given["out"] != "-", "an output that is kept, and --out - keeps none"),
    ),
    ("export", "report"): (_Use(("images_from",), lambda given: given["images"], "--images"),),
}
"""By the words that call a command."""


def refuse_idle(words: tuple[str, ...], options: _Options, typed: Mapping[str, str]) -> None:
    """Refuse options that were typed and cannot act.

    Args:
        words: That call the command.
        options: The values of all its options.
        typed: Those that were typed, by the names of parameters, as they are written.

    Raises:
        ConfigError: There is one, or an output has an empty name.
    """
    if options.get("out") == "":
        raise ConfigError("--out is empty: give the output a name")
    for parameters, can_act, purpose in _USES.get(words, ()):
        idle = [typed[name] for name in parameters if name in typed]
        if idle and not can_act(options):
            raise ConfigError(f"{' and '.join(idle)} would do nothing: that is for {purpose}; leave it out")
    patterns = {name: options[name] if name in typed else () for name in ("include", "exclude") if name in options}
    if any(patterns.values()):
        _refuse_contradicted(options.get("inputs") or (), **patterns)


def _refuse_contradicted(inputs: Collection[str], *, include: Sequence[str], exclude: Sequence[str]) -> None:
    """Refuse files that are named outright, and that the patterns would leave out, which are for files in folders."""
    from motivnet_cli.inputs.patterns import Filter

    takes = Filter(include, exclude)
    for path in inputs:
        if not takes.takes_file(path, os.path.basename(path)) and os.path.isfile(path):  # noqa: PTH113, PTH119
            raise ConfigError(
                f"--include and --exclude are for the files in folders, and {one_line(path)!r} is named outright: "
                "name its folder, or leave it out"
            )
