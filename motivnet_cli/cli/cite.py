"""`motivnet cite`: what a paper says of predictions, and whom it cites."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import typer

from motivnet_cli.cli.terminal import print_data, print_json, reporting_errors, talking


def cite(
    path: Annotated[str, typer.Argument(metavar="OUT", help="An output of annotate: a .parquet file or a folder.")],
    *,
    only: Annotated[
        Literal["text", "bibtex"] | None,
        typer.Option("--format", metavar="text|bibtex", help="Print only the paragraph, or only the BibTeX entries."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print both, and the record of the run, to stdout as JSON.")
    ] = False,
) -> None:
    """Print a paragraph for the methods section of a paper, and BibTeX entries of what was used.

    Example: motivnet cite preds.parquet

    Every sentence is of this run, by its record and its tables.
    """
    with reporting_errors(), talking(quiet=False):
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
