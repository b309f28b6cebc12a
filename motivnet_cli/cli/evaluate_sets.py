"""`motivnet evaluate --list` and `--remember`: which labelled sets are here, and where."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from motivnet_cli.cli.log import say
from motivnet_cli.cli.terminal import aligned, print_json, print_lines
from motivnet_cli.errors import ConfigError, one_line

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.inventory import SetState


def remember_set(text: str, *, as_json: bool) -> None:
    """Write `NAME=ROOT` to the user's motivnet.toml."""
    from motivnet_cli.evaluation.datasets.roots import remember

    name, sign, root = text.partition("=")
    if not (name.strip() and sign and root.strip()):
        raise ConfigError(f"--remember takes a set and its folder, such as rafdb=/data/RAF-DB, got {text!r}")
    done = remember(name.strip(), root.strip())
    before = f" (before: {done.before})" if done.before not in (None, done.root) else ""
    say(f"remembered in {done.file}: {name.strip()} = {done.root}{before}")
    if as_json:
        print_json({"set": name.strip(), "root": done.root, "file": str(done.file), "before": done.before})


def print_set(name: str, root: str | None, *, split: str | None, protocol: str | None, as_json: bool) -> None:
    """What is known of one set, and what of it is here."""
    from motivnet_cli.evaluation.datasets.inventory import state_of
    from motivnet_cli.evaluation.datasets.read import card_named

    card = card_named(name)
    state = state_of(name, root, split=split, protocol=protocol)
    if as_json:
        print_json({**dataclasses.asdict(card), "here": dataclasses.asdict(state)})
        return
    lines = [f"{card.name}: {card.title}", *(f"  layout: {layout}" for layout in card.layouts)]
    lines.append(f"  splits: {', '.join(card.splits)} (default {card.default_split})")
    if card.protocols:
        lines.append(f"  protocols: {', '.join(card.protocols)} (default {card.default_protocol})")
    lines += [f"  terms: {card.terms}", f"  from: {card.where}"]
    lines.append(f"  here: {state.root} ({state.source})" if state.root else "  here: not found")
    lines += [f"  looked at: {place}" for place in state.looked]
    if state.root:
        lines.append(f"  state: {state.state} ({_count(state)})" if state.images else f"  state: {state.state}")
    print_lines([*lines, *(f"  departs: {detail}" for detail in state.details)])


def print_sets(*, as_json: bool) -> None:
    """Every set, whether it is here and whole: a table, aligned on a terminal and with tabs in a pipe."""
    from motivnet_cli.evaluation.datasets.cards import CARDS
    from motivnet_cli.evaluation.datasets.inventory import states_of_all

    states = states_of_all()
    if as_json:
        here = {state.name: dataclasses.asdict(state) for state in states}
        print_json([{**dataclasses.asdict(card), "here": here.get(card.name)} for card in CARDS.values()])
    elif sys.stdout.isatty():
        rows = [("set", "state", "images", "where"), *map(_row_for_people, states)]
        notes = [_note(state) for state in states if state.details]
        print_lines([*aligned(rows), *([""] if notes else []), *notes])
    else:
        head = ("set", "state", "root", "source", "split", "protocol", "images", "published", "details", "from")
        print_lines("\t".join(row) for row in [head, *map(_row_for_programs, states)])


def _note(state: SetState) -> str:
    """The first thing that is not as it should be, and where the others stand."""
    others = len(state.details) - 1
    more = f" ({others} more: --list --dataset {state.name})" if others else ""
    return f"{state.name}: {state.details[0]}{more}"


def _row_for_people(state: SetState) -> tuple[str, ...]:
    where = f"{state.root} ({state.source})" if state.root else f"ask at {state.where}"
    return state.name, state.state, _count(state), where


def _row_for_programs(state: SetState) -> tuple[str, ...]:
    numbers = [state.images, state.published]
    cells = [state.name, state.state, state.root, state.source, state.split, state.protocol, *numbers]
    cells += ["; ".join(state.details), state.where]
    return tuple("" if cell is None else one_line(str(cell)) for cell in cells)


def _count(state: SetState) -> str:
    """Such as `test: 3,068 of 3,068` and `all: 7,442 of 7,442 clips`."""
    if state.images is None:
        return ""
    of = f" of {state.published:,}" if state.published is not None else ""
    unit = " clips" if state.unit == "clip" else ""
    return f"{state.split}: {state.images:,}{of}{unit}"
