"""`motivnet completion`: what the Tab key offers in bash, zsh and fish.

The scripts run motivnet with the words up to the cursor, and ANSWERING set; `main` then prints what `answer` finds.
Values come from what --help says of an option: `auto|N` offers auto, and FILE, MODEL and the like what they stand for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from motivnet_cli.cli import help
from motivnet_cli.cli.log import say
from motivnet_cli.cli.options import LogOptions
from motivnet_cli.cli.terminal import print_data, talking
from motivnet_cli.errors import MotivNetError

if TYPE_CHECKING:
    from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

ANSWERING = "MOTIVNET_COMPLETE"
"""The environment variable under which motivnet answers a shell, and does nothing else."""
_FILES, _FOLDERS = ":files", ":folders"
"""Answers that leave it to the shell to offer files, or folders."""


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish", help="The shell that you use.")
    ],
    *,
    install: Annotated[
        bool,
        typer.Option(
            "--install",
            help="Write the script to a file, and a line into .bashrc or .zshrc that reads it; fish needs none.",
        ),
    ] = False,
    log: LogOptions,
) -> None:
    """Let the Tab key complete commands, options, their values, and names of models, data sets and formats.

    Example: motivnet completion bash --install

    Without --install the script goes to stdout.
    """
    with talking(log):
        if install:
            _install(shell)
        else:
            print_data(_SCRIPTS[shell])


def _install(shell: str) -> None:
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    script, start = {
        "bash": (data / "motivnet" / "completion.bash", home / ".bashrc"),
        "zsh": (data / "motivnet" / "completion.zsh", Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"),
        "fish": (config / "fish" / "completions" / "motivnet.fish", None),
    }[shell]
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"{_SCRIPTS[shell]}\n")
    say(f"written: {script}")
    if start is not None:
        line = f"source {shlex.quote(str(script))}"
        lines = start.read_text(errors="surrogateescape").splitlines() if start.exists() else []
        if line not in lines:
            with start.open("a") as file:
                file.write(f"\n{line}\n")
            say(f"added to {start}: {line}")
    say("shells that are started from now on complete motivnet")


# ---- what may stand at the cursor --------------------------------------------------------------------------


@dataclasses.dataclass
class _Place:
    """What the words before the cursor have come to."""

    command: TyperCommand | TyperGroup
    used: set[str] = dataclasses.field(default_factory=set)
    """Names of options that were given."""
    waiting: TyperOption | None = None
    """The option whose value comes next."""
    num_arguments: int = 0
    only_arguments: bool = False
    """After --."""

    @property
    def options(self) -> dict[str, TyperOption]:
        params: list[TyperOption] = self.command.params  # type: ignore[assignment]
        return {
            name: each
            for each in params
            if each.param_type_name == "option" and not each.hidden
            for name in (*each.opts, *each.secondary_opts)
        }

    @property
    def commands(self) -> dict[str, TyperCommand | TyperGroup]:
        commands: dict[str, TyperCommand | TyperGroup] = getattr(self.command, "commands", {})
        return commands

    def after(self, word: str) -> _Place:
        if self.waiting is not None:
            return dataclasses.replace(self, waiting=None)
        if word == "--":
            return dataclasses.replace(self, only_arguments=True)
        if word in self.commands:
            return _Place(self.commands[word])
        if self.only_arguments or not word.startswith("-"):
            return dataclasses.replace(self, num_arguments=self.num_arguments + 1)
        name, has_value, _ = word.partition("=")
        option = self.options.get(name)
        waiting = None if option is None or option.is_flag or has_value else option
        return dataclasses.replace(self, used=self.used | set(option.opts if option else ()), waiting=waiting)


def answer(command: TyperCommand | TyperGroup, words: Sequence[str]) -> Iterator[str]:
    """What may stand in place of the last word: a line each, of the word, a tab, and what it means.

    Args:
        command: motivnet itself.
        words: What stands behind `motivnet`, up to the cursor. The last may be empty; bash gives = as a word.
    """
    *before, last = words or [""]
    if last == "=":
        last = ""
    elif last.startswith("--") and "=" in last:
        name, _, last = last.partition("=")
        before.append(name)
    place = _Place(command)
    for word in before:
        if word == "--" and place.command.name == "slurm-script":  # the arguments of annotate follow
            place = _Place(_Place(command).commands["annotate"])
        elif word != "=":
            place = place.after(word)
    offers = dict(_offers(place, last))
    yield from (f"{word}\t{_sentence(about)}" for word, about in offers.items() if word.startswith((last, ":")))


def _offers(place: _Place, last: str) -> Iterator[tuple[str, str]]:
    arguments: list[TyperArgument] = [each for each in place.command.params if each.param_type_name == "argument"]  # type: ignore[misc]
    if place.waiting is not None:
        yield from _values(place.waiting)
    elif last.startswith("-") and not place.only_arguments:
        for name, option in place.options.items():
            if name.startswith("--") and (option.multiple or not place.used.intersection(option.opts)):
                yield name, option.help or ""
        yield "--help", "Show this help."
    elif place.commands:
        yield from ((name, help.summary(each)) for name, each in place.commands.items())
    elif place.num_arguments < len(arguments):
        yield from _values(arguments[place.num_arguments])
    elif arguments and arguments[-1].nargs != 1:
        yield from _values(arguments[-1])


def _values(parameter: TyperArgument | TyperOption) -> Iterator[tuple[str, str]]:
    yield from ((word, "") for word in help.choices(parameter))
    names = re.findall("[A-Z]{2,}", parameter.metavar or "")
    for name in names:
        if name in _NAMED:
            yield from _NAMED[name]()
    if _FILE_NAMES.intersection(names):
        yield _FILES, ""
    elif "FOLDER" in names:
        yield _FOLDERS, ""


def _models() -> Iterable[tuple[str, str]]:
    from motivnet_cli.catalogue import CARDS
    from motivnet_cli.weights.store import Store

    yield from ((name, card.title) for name, card in CARDS.items())
    with contextlib.suppress(MotivNetError, OSError):
        yield from ((model.name, "in the store") for model in Store(None).models() if model.name not in CARDS)


def _datasets() -> Iterable[tuple[str, str]]:
    from motivnet_cli.evaluation.datasets.cards import CARDS

    return ((name, card.title) for name, card in CARDS.items())


def _formats() -> Iterable[tuple[str, str]]:
    from motivnet_cli.export.formats import FORMATS

    return ((name, form.for_whom) for name, form in FORMATS.items())


_NAMED = {"MODEL": _models, "START": _models, "DATASET": _datasets, "FORMAT": _formats}
_FILE_NAMES = {"FILE", "INPUT", "IMAGES", "PREDICTIONS", "OTHERS", "VIDEO"}
"""Metavars of files; a shell that offers files offers folders, too."""


def _sentence(text: str) -> str:
    """The first sentence, on one line."""
    return " ".join(text.split()).partition(". ")[0].removesuffix(".")


# ---- scripts -----------------------------------------------------------------------------------------------

_SCRIPTS = {
    "bash": """\
# Completion of motivnet for bash.
_motivnet() {
    local word about IFS=$'\\n'
    COMPREPLY=()
    while IFS=$'\\t' read -r word about; do
        case $word in
            :files) compopt -o default 2>/dev/null ;;
            :folders) compopt -o dirnames 2>/dev/null ;;
            *) COMPREPLY+=("$word") ;;
        esac
    done < <(MOTIVNET_COMPLETE=1 "${COMP_WORDS[0]/#\\~/$HOME}" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _motivnet motivnet""",
    "zsh": """\
#compdef motivnet
# Completion of motivnet for zsh.
_motivnet() {
    local line word files
    local -a described
    local -a given=("${(@Q)words[1,CURRENT]}")
    [[ $PREFIX == --*=* ]] && compset -P '*='
    for line in "${(@f)$(MOTIVNET_COMPLETE=1 "${given[1]/#\\~/$HOME}" "${(@)given[2,-1]}" 2>/dev/null)}"; do
        word=${line%%$'\\t'*}
        case $word in
            '') ;;
            :files) files=all ;;
            :folders) files=folders ;;
            *) described+=("${word//:/\\\\:}:${line#*$'\\t'}") ;;
        esac
    done
    local found=1
    (( $#described )) && _describe motivnet described && found=0
    [[ $files == all ]] && _files && found=0
    [[ $files == folders ]] && _files -/ && found=0
    return found
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _motivnet "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _motivnet motivnet
fi""",
    "fish": """\
# Completion of motivnet for fish.
function __motivnet_complete
    set -l given (commandline -opc)
    set -l last (commandline -ct)
    set -l option (string match -r -- '^--[^=]*=' $last)
    set -l value (string replace -r -- '^--[^=]*=' '' $last)
    for line in (MOTIVNET_COMPLETE=1 $given[1] $given[2..-1] "$last" 2>/dev/null)
        switch $line
            case ':files*'
                printf "$option%s\\n" (__fish_complete_path "$value")
            case ':folders*'
                printf "$option%s\\n" (__fish_complete_directories "$value")
            case '*'
                printf '%s\\n' "$option$line"
        end
    end
end
complete -c motivnet -f -a '(__motivnet_complete)'""",
}
