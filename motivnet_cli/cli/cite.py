"""`motivnet cite`: what a paper says of predictions, and whom it cites."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import typer

from motivnet_cli.cli.options import AsJson, LogOptions, Predictions
from motivnet_cli.cli.terminal import print_data, print_json, talking


def cite(
    path: Predictions,
    *,
    only: Annotated[
        Literal["text", "bibtex"] | None,
        typer.Option("--format", metavar="text|bibtex", help="Print only the paragraph, or only the BibTeX entries."),
    ] = None,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Print a paragraph for the methods section of a paper, and BibTeX entries of what was used.

    Example: motivnet cite preds.parquet

    Every sentence is of this run, by its record and its tables.
    """
    with talking(log):
        from motivnet_cli.export.citation import cite as describe

        citation = describe(path)
        if as_json:
            print_json(dataclasses.asdict(citation))
            return
        if only != "bibtex":
            print_data(citation.methods)
        if only is None:
            print_data("")
        if only != "text":
            print_data("\n\n".join(citation.bibtex))
