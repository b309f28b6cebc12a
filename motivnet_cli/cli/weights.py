"""`motivnet download-weights` and `motivnet models`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
from motivnet_cli.cli.options import Quiet, StoreFolder
from motivnet_cli.cli.terminal import print_data, print_json, reporting_errors, talking

if TYPE_CHECKING:
    from rich.console import Console

    from motivnet_cli.weights.store import InstallPlan, Store, StoredModel


def download_weights(
    name: Annotated[
        str,
        typer.Argument(help="A model of the catalogue, or a name of your own."),
    ] = DEFAULT_MODEL,
    url: Annotated[
        str | None, typer.Option(help="Where to get it: http(s)://, file://, hf://owner/repo/file, s3://, gs://...")
    ] = None,
    from_file: Annotated[
        str | None, typer.Option(metavar="PATH", help="A checkpoint file brought by hand, in place of a download.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file must hash to.")] = None,
    store: StoreFolder = None,
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="Accept the model's terms, in scripts.")] = False,
    list_models: Annotated[bool, typer.Option("--list", help="Say what is known and what is here.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash the stored file again.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the model out of the store.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON to stdout.")] = False,
) -> None:
    """Bring a model's weights into the store.

    Example: motivnet download-weights --accept-terms

    A download goes on where it broke off, is verified, and is stored whole or not at all.
    On a machine without internet: download the file elsewhere, copy it, and use --from-file.
    MOTIVNET_OFFLINE=1 forbids every use of the network; proxies are taken from HTTPS_PROXY and its kin.
    """
    with reporting_errors(), talking(quiet=quiet) as console:
        from motivnet_cli.weights.store import Store

        if sum((list_models, verify, remove)) > 1 or (url and from_file):
            raise errors.ConfigError("give only one of --list, --verify, --remove, and only one of --url, --from-file")
        models = Store(store)
        if list_models:
            _list_models(models, as_json=as_json)
            return
        if verify:
            _print_stored(console, models.verify(name), "unchanged", as_json=as_json)
            return
        if remove:
            models.remove(name)
            console.print(f"removed {name} from {models.root}", markup=False, soft_wrap=True)
            return
        if present := models.find(name):
            _print_stored(console, present, "here already", as_json=as_json)
            return
        plan = models.plan(name, url=url, file=from_file)
        if dry_run:
            _print_plan(console, plan, as_json=as_json)
            return
        _ask_for_terms(console, plan, accepted=accept_terms)
        with _watching_bytes(console, quiet=quiet) as progress:
            stored = models.install(
                name, url=url, file=from_file, sha256=sha256, offline=_is_offline(), progress=progress
            )
        _print_stored(console, stored, "stored", as_json=as_json)


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the models, their terms and limits.

    Example: motivnet models
    """
    if as_json:
        print_json([dataclasses.asdict(card) for card in CARDS.values()])
        return
    lines = []
    for card in CARDS.values():
        weights = "inside this package" if card.embedded else f"brought by `motivnet download-weights {card.name}`"
        lines += [
            f"{card.name}: {card.title}",
            f"  {card.about}",
            f"  Weights: {weights}.",
            f"  Terms: {card.terms}",
        ]
        lines += [f"  Note: {limit}" for limit in card.limits]
        lines.append("")
    print_data("\n".join(lines[:-1]))


def _ask_for_terms(console: Console, plan: InstallPlan, *, accepted: bool) -> None:
    """Show the terms, and go on only if they are accepted: by the flag, or by a person at the terminal."""
    console.print(f"Terms of {plan.name}: {plan.terms}", markup=False, soft_wrap=True)
    if accepted:
        return
    if not (console.is_terminal and sys.stdin.isatty()):
        raise errors.ConfigError("nobody is here to accept these terms: read them, then add --accept-terms")
    if not typer.confirm("Do you accept these terms?", err=True):
        raise errors.ConfigError("the terms were not accepted; nothing was downloaded")


def _is_offline() -> bool:
    return os.environ.get("MOTIVNET_OFFLINE", "") not in ("", "0")


def _print_stored(console: Console, model: StoredModel, what: str, *, as_json: bool) -> None:
    console.print(
        f"{model.name} is {what}: {model.size_bytes / 1e9:.2f} GB, {model.num_parameters:,} parameters, "
        f"sha256 of the source {model.sha256}, in {model.path}",
        markup=False,
        soft_wrap=True,
    )
    if as_json:
        print_json(dataclasses.asdict(model))


def _print_plan(console: Console, plan: InstallPlan, *, as_json: bool) -> None:
    size = f"about {plan.download_bytes / 1e9:.1f} GB" if plan.download_bytes else "of unknown size"
    console.print(
        f"would bring {plan.name} from {plan.source} ({size}) into {plan.folder}, where "
        f"{plan.free_bytes / 1e9:.1f} GB are free; terms: {plan.terms}",
        markup=False,
        soft_wrap=True,
    )
    if as_json:
        print_json(dataclasses.asdict(plan))


def _list_models(models: Store, *, as_json: bool) -> None:
    from motivnet_cli.weights.store import find_card

    here = {model.name: model for model in models.models()}
    rows: list[dict[str, Any]] = []
    for name in [*CARDS, *(name for name in here if name not in CARDS)]:
        card = find_card(name, models)
        stored = here.get(name)
        rows.append(
            {
                "name": name,
                "here": card.embedded or stored is not None,
                "size_bytes": stored.size_bytes if stored else card.download_bytes,
                "path": stored.path if stored else None,
                "source": stored.source if stored else card.url,
                "terms": card.terms,
            }
        )
    if as_json:
        print_json(rows)
        return
    lines = [f"store: {models.root}"]
    for row in rows:
        where = row["path"] or ("inside the package" if row["here"] else f"not here; from {row['source']}")
        size = f"{row['size_bytes'] / 1e9:.2f} GB, " if row["size_bytes"] else ""
        lines += [f"{row['name']}: {size}{where}", f"  terms: {row['terms']}"]
    print_data("\n".join(lines))


def _watching_bytes(console: Console, *, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    from motivnet_cli.progress import byte_display, byte_lines, silence_bytes

    if quiet:
        return silence_bytes()
    if console.is_terminal:
        return byte_display(console)
    return byte_lines(lambda line: console.print(line, markup=False, soft_wrap=True))
