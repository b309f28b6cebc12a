"""The command line: options -> settings -> one call -> a few lines of text.

`command` makes commands: with the `help` of each, the `options` that they share, and `settings` from files. `terminal`
holds their signals, errors and output, `log` what they say, `progress` how they are watched, and `missing_weights` how
they come by a network; every other module holds commands. A command imports what it runs when it runs, so that
`motivnet --help` waits for neither torch nor pyarrow.
stdout carries data only; everything else goes to stderr.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from motivnet_cli import __version__
from motivnet_cli.cli import (
    annotate,
    cite,
    compare,
    completion,
    evaluate,
    export,
    machine,
    scale,
    summary,
    train,
    verify,
    weights,
)
from motivnet_cli.cli.command import App
from motivnet_cli.cli.help import GENERAL

app = App(
    "motivnet",
    help="Find every face in pictures and videos, predict its emotion with MotivNet, and write Parquet.",
    epilog="Exit codes: 0 done; 1 a fault in motivnet or on this machine; 2 wrong usage or settings; 3 done, but more "
    "inputs failed than --max-failures allows; 4 accuracy below --min-accuracy; 5 an output "
    "that is not whole (verify, status); 75 stopped by SIGTERM or SIGUSR1; 130 "
    "stopped by Ctrl-C. After 75 and 130, run the same command again to continue.",
)


def main() -> None:
    """Run the command line: the entry point of the console script."""
    if os.name != "posix":
        sys.exit(f"error: motivnet runs on Linux and macOS, and this is {sys.platform}: on Windows, run it within WSL")
    if completion.ANSWERING in os.environ:
        for line in completion.answer(typer.main.get_command(app), sys.argv[1:]):  # type: ignore[arg-type]
            typer.echo(line)
        return
    try:
        app(prog_name="motivnet")
    finally:
        gc.freeze()  # or Python searches for garbage once more as it ends: 0.4 s where torch was imported


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motivnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
            rich_help_panel=GENERAL,
        ),
    ] = False,
) -> None:
    pass


app.command("annotate", group="Predict")(annotate.annotate)
app.command("verify", group="Predict")(verify.verify)
app.command("summary", group="Use predictions")(summary.summary)
app.command("cite", group="Use predictions")(cite.cite)
app.add_typer(export.export, name="export", rich_help_panel="Use predictions")
app.command("evaluate", group="Evaluate and train")(evaluate.evaluate)
app.add_typer(compare.compare, name="compare", rich_help_panel="Evaluate and train")
app.command("train", group="Evaluate and train")(train.train)
app.command("models", group="Models")(weights.models)
app.command("download-weights", group="Models")(weights.download_weights)
app.command("status", group="Clusters")(scale.status)
app.command("slurm-script", group="Clusters")(scale.slurm_script)
app.command("plan", group="Clusters")(scale.plan)
app.command("doctor", group="This machine")(machine.doctor)
app.command("bench", group="This machine")(machine.bench)
app.command("completion", group="This machine")(completion.completion)
