"""Weights that a command needs and the store lacks: their terms are accepted, they are downloaded, the command goes on.

A person at a terminal is asked once; scripts and batch jobs say --accept-terms; nobody else gets a download.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

import typer

from motivnet_cli.catalogue import CARDS
from motivnet_cli.cli.log import say, shown
from motivnet_cli.cli.progress import size_text, watch_bytes
from motivnet_cli.cli.terminal import aligned, ending_at_once
from motivnet_cli.errors import MissingWeightsError
from motivnet_cli.shards import is_batch_job

if TYPE_CHECKING:
    from motivnet_cli.cli.options import LogOptions
    from motivnet_cli.cli.progress import Talk
    from motivnet_cli.weights.store import InstallPlan, Store, StoredModel

_Result = TypeVar("_Result")


def with_weights(
    run: Callable[[], _Result], talk: Talk, log: LogOptions, *, accept_terms: bool, is_share: bool = False
) -> _Result:
    """What `run` returns; where it finds that weights are missing, they are brought, and it is called again.

    Args:
        accept_terms: Download them without a question.
        is_share: Other processes do parts of the same run, and each would ask.

    Raises:
        MissingWeightsError: They are not here, and nobody accepted their terms.
        FetchError: The store cannot hold them, or the download failed.
        typer.Exit: A signal ended the question or the download.
    """
    try:
        return run()
    except MissingWeightsError as missing:
        may_ask = not (log.quiet or log.format_on_stderr == "json" or is_share or _is_offline() or is_batch_job())
        if not accept_terms and not (may_ask and is_terminal()):
            raise
        _bring(missing, talk, accept_terms=accept_terms)
    return with_weights(run, talk, log, accept_terms=accept_terms, is_share=is_share)


def _bring(missing: MissingWeightsError, talk: Talk, *, accept_terms: bool) -> None:
    from motivnet_cli.weights.store import Store

    store = Store(missing.store)
    plan = store.plan(missing.name)
    store.check(plan)
    accepted = accept(plan, talk, by_option=accept_terms)
    if accepted is None:
        raise missing
    stored = install(store, plan.name, talk, accepted=accepted)
    say(f"stored {stored.path}, sha256 of the source {stored.sha256}")


def plan_rows(plan: InstallPlan) -> list[tuple[str, str]]:
    """What would be brought: what it is, from where, how large, to where, on which terms."""
    size = "not known before the download"
    if plan.download_bytes is not None:
        here = f", of which {size_text(plan.present_bytes)} are here" if plan.present_bytes else ""
        size = f"{size_text(plan.download_bytes)}{here}"
    needs = "" if plan.needed_bytes is None else f"{size_text(plan.needed_bytes)} needed until it is stored; "
    return [
        ("what", CARDS[plan.name].title if plan.name in CARDS else plan.name),
        ("from", plan.source),
        ("size", size),
        ("disk", f"{needs}{size_text(plan.free_bytes)} free"),
        ("to", plan.folder),
        ("terms", plan.terms),
    ]


def accept(plan: InstallPlan, talk: Talk, *, by_option: bool) -> str | None:
    """When and how the terms of a model were accepted, for its record; None where they were not.

    What is missing, and its terms, are said first: with a question or without one to ask, also if --quiet.

    Raises:
        typer.Exit: A signal came.
    """
    lines = [f"{plan.name} is not in the store:", *(f"  {line}" for line in aligned(plan_rows(plan)))]
    how = "by --accept-terms"
    talk.hide()
    for line in lines:
        if by_option:
            say(line)
        else:
            typer.echo(shown(line), err=True)
    if not by_option:
        how = "at a terminal"
        with ending_at_once():
            if not (is_terminal() and _says_yes("Do you accept these terms, and go on?")):
                return None
    return f"{datetime.now(timezone.utc).isoformat(timespec='seconds')}, {how}"


def install(
    store: Store,
    name: str,
    talk: Talk,
    *,
    accepted: str,
    url: str | None = None,
    file: str | None = None,
    sha256: str | None = None,
) -> StoredModel:
    """`Store.install`, watched. A signal ends it; the next one goes on from what has come.

    Raises:
        FetchError: As `Store.install`, which also raises what else this does.
        typer.Exit: A signal came.
    """
    kept = "stopped; what has come of the download is kept: run the same command again to continue"
    with ending_at_once(kept), watch_bytes(talk) as progress:
        return store.install(
            name,
            url=url,
            file=file,
            sha256=sha256,
            offline=_is_offline(),
            progress=progress,
            terms_accepted=accepted,
        )


def is_terminal() -> bool:
    """Whether a person can read a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _is_offline() -> bool:
    return os.environ.get("MOTIVNET_OFFLINE", "") not in ("", "0")


def _says_yes(question: str) -> bool:
    """Ask on stderr, once: anything but yes is a no, as is the end of input. stdout is left alone."""
    typer.echo(f"{question} [y/N] ", nl=False, err=True)
    while sys.stdin.isatty() and not select.select([sys.stdin], [], [], 0.1)[0]:
        pass  # a signal that comes just before a blocking read does not end it
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        typer.echo(err=True)
    return answer.strip().casefold() in ("y", "yes")
