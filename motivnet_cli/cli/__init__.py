"""The command line: options -> config -> one call -> a few lines of text.

The one room that prints, reads signals and exits: `terminal` holds what its commands share, every other module some
commands. Commands import what they run, so that `motivnet --help` waits for neither torch nor pyarrow. stdout carries
data only; all talk goes to stderr.
"""

from __future__ import annotations

from typing import Annotated

import typer

from motivnet_cli import __version__
from motivnet_cli.cli import annotate, evaluate, export, machine, scale, weights

app = typer.Typer(
    name="motivnet",
    help="Emotions and embeddings for every face in your pictures, with MotivNet, to Parquet.",
    epilog="Exit codes: 0 done, 1 a fault of ours or of the machine, 2 wrong usage or settings, 3 done but too "
    "many inputs failed, 4 below --min-accuracy, 75 stopped by SIGTERM or SIGUSR1, 130 stopped by Ctrl-C (75 and "
    "130: run the same command again to go on).",
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes and markdown double the time that --help takes (benchmarks/startup.py)
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motivnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


app.command("annotate")(annotate.annotate)
app.command("status")(scale.status)
app.command("slurm-script")(scale.slurm_script)
app.command("download-weights")(weights.download_weights)
app.command("models")(weights.models)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(evaluate.compare, name="compare")
app.command("bench")(machine.bench)
app.command("doctor")(machine.doctor)
app.add_typer(export.export, name="export")
