"""`motivnet download-weights` and `motivnet models`."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
from motivnet_cli.cli.help import OTHER, text_width, wrapped
from motivnet_cli.cli.log import phase, say
from motivnet_cli.cli.missing_weights import accept, install, is_terminal, plan_rows
from motivnet_cli.cli.options import AcceptTerms, AsJson, LogOptions, OptionGroup, StoreFolder
from motivnet_cli.cli.progress import size_text
from motivnet_cli.cli.terminal import print_json, print_lines, table_lines, talking

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from motivnet_cli.catalogue import ModelCard
    from motivnet_cli.cli.progress import Talk
    from motivnet_cli.weights.store import InstallPlan, Store, StoredModel
    from motivnet_cli.weights.training_record import TrainingRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class OriginOptions(OptionGroup):
    """Where a model's weights come from."""

    panel = "Source"

    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Address to download from: http(s)://, file://, hf://owner/repo/file, s3://, gs://..."
        ),
    ] = None
    from_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="A local checkpoint file to use in place of a download.")
    ] = None
    sha256: Annotated[str | None, typer.Option(metavar="HASH", help="SHA-256 that the file must have.")] = None


def download_weights(
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model of the catalogue, or a name of your own.")
    ] = DEFAULT_MODEL,
    *,
    origin: OriginOptions,
    store: StoreFolder = None,
    accept_terms: AcceptTerms = False,
    list_models: Annotated[
        bool,
        typer.Option("--list", help="List all models, and which of them are in the store.", rich_help_panel=OTHER),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash the stored file again.", rich_help_panel=OTHER)
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the model from the store.", rich_help_panel=OTHER)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.", rich_help_panel=OTHER)
    ] = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Download a model's weights into the store.

    Example: motivnet download-weights --accept-terms

    An interrupted download is resumed. It is verified, and stored whole or not at all. For a machine without internet,
    download the file elsewhere, copy it, and use --from-file. MOTIVNET_OFFLINE=1 forbids every use of the network;
    proxies are read from HTTPS_PROXY and the like.
    """
    with talking(log) as talk:
        if not (list_models or remove or dry_run):
            phase(f"download-weights: {name}")
        from motivnet_cli.weights.store import Store

        if sum((list_models, verify, remove)) > 1 or (origin.url and origin.from_file):
            raise errors.ConfigError("give only one of --list, --verify, --remove, and only one of --url, --from-file")
        models = Store(store)
        if list_models:
            _list_models(models, as_json=as_json)
        elif verify:
            _print_stored(models.verify(name), "unchanged", as_json=as_json)
        elif remove:
            models.remove(name)
            say(f"removed {name} from {models.root}")
            if as_json:
                print_json({"removed": name})
        elif present := models.find(name):
            _print_stored(present, "in the store already", as_json=as_json)
        elif dry_run:
            _print_plan(models.plan(name, url=origin.url, file=origin.from_file), as_json=as_json)
        else:
            plan = models.plan(name, url=origin.url, file=origin.from_file)
            models.check(plan)
            stored = install(
                models,
                name,
                talk,
                accepted=_accepted(plan, talk, by_option=accept_terms),
                url=origin.url,
                file=origin.from_file,
                sha256=origin.sha256,
            )
            _print_stored(stored, "stored", as_json=as_json)


def _accepted(plan: InstallPlan, talk: Talk, *, by_option: bool) -> str:
    """When and how the terms were accepted: by the option, or by a person at the terminal.

    Raises:
        ConfigError: They were not, or there is nobody to ask.
    """
    accepted = accept(plan, talk, by_option=by_option)
    if accepted is None:
        if not is_terminal():
            raise errors.ConfigError("there is no terminal to ask at: read these terms, then add --accept-terms")
        raise errors.ConfigError("the terms were not accepted; nothing was downloaded")
    return accepted


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A model of the catalogue or the store. Default: all of them."),
    ] = None,
    *,
    store: StoreFolder = None,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Describe the models, those of the store among them: what they are, their terms and limits.

    Example: motivnet models
    """
    with talking(log):
        from motivnet_cli.weights.cards import find_card
        from motivnet_cli.weights.store import Store

        models = Store(store)
        stored = {model.name: model for model in (models.models() if name is None else [models.find(name)]) if model}
        names = dict.fromkeys([*CARDS, *stored] if name is None else [name])
        cards = {each: find_card(each, models) for each in names}
        trainings = {each: stored[each].training if each in stored else None for each in cards}
        if as_json:
            content = [
                dataclasses.asdict(card) | {"training": training.to_json() if training else None}
                for card, training in zip(cards.values(), trainings.values(), strict=True)
            ]
            print_json(content if name is None else content[0])
        else:
            print_lines(_descriptions(list(cards.values()), stored))


def _descriptions(cards: Collection[ModelCard], stored: Mapping[str, StoredModel]) -> list[str]:
    """What the models are and their terms; of one alone, its limits and training, too."""
    lines = []
    is_one = len(cards) == 1
    for (terms, limits), alike in itertools.groupby(cards, key=lambda card: (card.terms, card.limits)):
        for card in alike:
            weights = f"by `motivnet download-weights {card.name}`"
            if card.embedded or card.name in stored:
                weights = stored[card.name].path if card.name in stored else "inside this package"
            lines += [f"{card.name}: {card.title}", *([f"  {card.about}"] if is_one else []), f"  Weights: {weights}."]
            if card.name in stored and is_one and (training := stored[card.name].training):
                lines += _training_lines(training)
        lines += [f"  Terms: {terms}", *(f"  Note: {limit}" for limit in limits if is_one), ""]
    if not is_one:
        lines.append("motivnet models MODEL says more of one: what it gives, its limits, how it was trained.")
    lines = lines[: -1 if is_one else None]
    return [each for line in lines for each in (wrapped(line, text_width(), hang=4) if line else [""])]


def _training_lines(training: TrainingRecord) -> list[str]:
    counts = [f"{split} {sum(by_class.values()):,}" for split, by_class in training.data.counts.items()]
    return [
        *(f"  From: {each.name} ({each.role}), sha256 {each.sha256}" for each in training.parents),
        f"  Data: {training.data.name}, {', '.join(counts)} faces; sha256 of the list {training.data.sha256}",
        f"  Trained by: {training.command}",
    ]


def _print_stored(model: StoredModel, what: str, *, as_json: bool) -> None:
    say(
        f"{model.name} is {what}: {size_text(model.size_bytes)}, {model.num_parameters:,} parameters, "
        f"sha256 of the source {model.sha256}, in {model.path}",
    )
    if as_json:
        print_json(dataclasses.asdict(model))


def _print_plan(plan: InstallPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(plan))
    else:
        print_lines(table_lines(plan_rows(plan)))


def _list_models(models: Store, *, as_json: bool) -> None:
    stored = {model.name: model for model in models.models()}
    rows = [_listed(models, name, stored.get(name)) for name in dict.fromkeys([*CARDS, *stored])]
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    lines = [f"store: {models.root}"]
    for row in rows:
        where = row.path or ("inside the package" if row.here else f"not here; from {row.source}")
        size = f"{size_text(row.size_bytes)}, " if row.size_bytes else ""
        lines += [f"{row.name}: {size}{where}", f"  terms: {row.terms}"]
    print_lines(lines)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _ListedModel:
    """A model of the catalogue or the store, as --list shows it."""

    name: str
    here: bool
    """It is in the store, or inside the package."""
    size_bytes: int | None
    path: str | None
    source: str | None
    terms: str


def _listed(models: Store, name: str, stored: StoredModel | None) -> _ListedModel:
    from motivnet_cli.weights.cards import find_card

    card = find_card(name, models)
    return _ListedModel(
        name=name,
        here=card.embedded or stored is not None,
        size_bytes=stored.size_bytes if stored else card.download_bytes,
        path=stored.path if stored else None,
        source=stored.source if stored else card.url,
        terms=card.terms,
    )
