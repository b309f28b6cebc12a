"""Settings that are set once: `--config FILE` and `--print-config` of every command, and `--preset NAME`.

A file has a table for each command. Its keys are the options as they are typed, without the dashes, and the arguments;
its values are what would be typed. They become defaults of the command (click's default map), so that what is typed
and what the environment says wins. A preset is such a file of this package, and yields to the user's. The whole file is
checked, whichever command runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NoReturn, TypeVar, cast, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from motivnet_cli import __version__
from motivnet_cli.cli import terminal
from motivnet_cli.cli.help import GENERAL
from motivnet_cli.cli.idle import refuse_idle
from motivnet_cli.cli.options import LogOptions, in_place_of
from motivnet_cli.errors import ConfigError, did_you_mean, first_line, one_line
from motivnet_cli.remote.urls import without_secrets

if TYPE_CHECKING:
    from tomlkit.items import Table

PresetName = Literal["interview", "photos", "crops"]
PRESETS = Path(__file__).parents[1] / "assets" / "presets"

SHARED = (
    "model", "store", "device", "threads", "smooth", "min-duration", "quiet", "verbose", "log-file", "log-format",
)  # fmt: skip
"""Options that may also stand before the first table, for every command that has them: there they mean the same."""

_ALTERNATIVES = (
    (("fps",), ("every",), ("frames",)),
    (("overwrite",), ("retry_failed",), ("extend",)),
    (("relative_to",), ("absolute",)),
    (("device",), ("devices",)),
    (("dataset", "root"), ("suite",)),
    (("url",), ("from_file",)),
)
"""Parameters that a command takes one side of: the side that wins puts the others out of force."""
_LOG_FIELDS = dataclasses.fields(LogOptions)
_AnyCommand = TypeVar("_AnyCommand", bound=Callable[..., None])


# ---- what can be set --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Setting:
    """A parameter of a command, as it stands in a file."""

    key: str
    parameter: str
    """Its name in the program."""
    kind: type
    """bool, int, float or str."""
    many: bool
    """It takes a list."""
    choices: tuple[str, ...]
    """Empty where any value of the kind is one."""
    least: float | None
    negations: tuple[str, ...]
    """How a flag is typed to switch it off, without dashes."""
    otherwise: str
    """What holds where it is not set, as the help says it; empty where it does not."""

    @property
    def expected(self) -> str:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}[self.kind]
        if self.choices:
            words = f"one of {', '.join(self.choices)}"
        if self.least is not None:
            words += f" of at least {self.least:g}"
        return f"a list of such: {words}" if self.many else words

    def as_typed(self, value: object) -> object:
        """A value of a file as it would be typed: a text, or several; of a flag, whether it is on.

        Raises:
            ValueError: It is of another kind, or out of its range.
        """
        if self.many:
            return tuple(map(self._word, value if isinstance(value, list) else [value]))
        if self.kind is bool and isinstance(value, bool):
            return value
        return self._word(value)

    def _word(self, value: object) -> str:
        kinds: tuple[type, ...] = {bool: (), int: (int,), float: (int, float), str: (int, float, str)}[self.kind]
        is_of_kind = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_of_kind or (self.choices and value not in self.choices) or "\0" in str(value):
            raise ValueError
        if isinstance(value, str):
            return str(Path(value).expanduser()) if re.match("~(/|$)", value) else value  # as a shell has it
        if self.least is not None and cast("float", value) < self.least:
            raise ValueError
        return str(value)


def settings_of(command: TyperCommand) -> dict[str, Setting]:
    """What can be set of a command, by key."""
    annotations = inspect.signature(cast("Any", command.callback)).parameters
    found: dict[str, Setting] = {}
    for parameter in command.params:
        name = str(parameter.name)
        if name in _PARAMETERS or name not in annotations:
            continue
        typed, about = get_args(annotations[name].annotation)[:2]
        (kind,) = [each for each in get_args(typed) if each is not NoneType] if NoneType in get_args(typed) else [typed]
        many = get_origin(kind) is list
        kind = get_args(kind)[0] if many else kind
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        is_argument = parameter.param_type_name == "argument"
        default = re.search(r"Default: (.+?)\.?$", about.help or "")
        key = name if is_argument else max(parameter.opts, key=len).lstrip("-")
        found[key] = Setting(
            key=key,
            parameter=name,
            kind=str if choices else kind,
            many=many,
            choices=choices,
            least=about.min,
            negations=tuple(each.lstrip("-") for each in parameter.secondary_opts),
            otherwise=default[1] if default else "",
        )
    return found


def _commands(group: TyperGroup, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Setting]]]:
    """What can be set, by the words that call each command."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, (*above, name))
        else:
            yield (*above, name), settings_of(cast("TyperCommand", command))


# ---- files ------------------------------------------------------------------------------------------------


class Values(NamedTuple):
    """What a file says, by keys as in `Setting.key`."""

    shared: Mapping[str, object]
    """Of all commands."""
    tables: Mapping[tuple[str, ...], Mapping[str, object]]
    """By the words that call a command."""

    def of(self, words: tuple[str, ...], settings: Mapping[str, Setting]) -> dict[str, object]:
        """What it says of a command, by the names of parameters, as it would be typed."""
        said = {key: value for key, value in self.shared.items() if key in settings} | dict(self.tables.get(words, {}))
        return {settings[key].parameter: settings[key].as_typed(value) for key, value in said.items()}


def read_values(name: str, data: bytes, root: TyperGroup) -> Values:
    """What a file says.

    Args:
        name: Of the file, for messages.
        root: Of all commands.

    Raises:
        ConfigError: It is no TOML, or says something that no command takes.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        content = tomlkit.parse(data.decode("utf-8-sig")).unwrap()
    except UnicodeDecodeError as error:
        raise ConfigError(f"the settings in {name!r} are not UTF-8: save the file as UTF-8") from error
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ConfigError(f"the settings in {name!r} are not TOML: {first_line(error)}") from error
    return _Reader(name, root).values(content)


class _Reader:
    """Holds what stands in a file against the commands that there are."""

    def __init__(self, file: str, root: TyperGroup) -> None:
        self._file = file
        self._commands = dict(_commands(root))

    def values(self, content: Mapping[str, object]) -> Values:
        tables = {key: value for key, value in content.items() if isinstance(value, dict)}
        shared = self._spelled({key: value for key, value in content.items() if key not in tables}, "at the top")
        for key, value in shared.items():
            self._check_shared(key, value)
        return Values(shared, dict(self._tables((), tables)))

    def _check_shared(self, key: str, value: object) -> None:
        takers = {words: settings[key] for words, settings in self._commands.items() if key in settings}
        if takers and key not in SHARED:
            tables = " or ".join(map(_table_name, list(takers)[:3]))
            raise ConfigError(
                f"{self._file!r}: {key} stands before the first table, where it would be of all commands: write it "
                f"below {tables}"
            )
        if not takers:
            self._refuse(key, "at the top", {each: {} for each in SHARED})
        self._check(next(iter(takers.values())), value, "at the top")

    def _tables(
        self, above: tuple[str, ...], tables: Mapping[str, object]
    ) -> Iterator[tuple[tuple[str, ...], dict[str, object]]]:
        for key, table in self._spelled(tables, f"in {_table_name(above)}" if above else "at the top").items():
            words = (*above, key)
            siblings = {each[len(above)] for each in self._commands if each[: len(above)] == above}
            if key not in siblings or not isinstance(table, dict):
                raise ConfigError(
                    f"{self._file!r}: {_table_name(words)} is the table of no command{did_you_mean(key, siblings)}"
                )
            if words in self._commands:
                yield words, self._table(words, table)
            else:
                yield from self._tables(words, table)

    def _table(self, words: tuple[str, ...], table: Mapping[str, object]) -> dict[str, object]:
        where, settings = f"in {_table_name(words)}", self._commands[words]
        spelled = self._spelled(table, where)
        for key, value in spelled.items():
            if key not in settings:
                self._refuse(key, where, settings)
            self._check(settings[key], value, where)
        return spelled

    def _spelled(self, content: Mapping[str, object], where: str) -> dict[str, object]:
        """With dashes in place of underscores."""
        spelled: dict[str, object] = {}
        for key, value in content.items():
            dashed = key.replace("_", "-")
            if dashed in spelled:
                raise ConfigError(f"{self._file!r}: {dashed} stands twice {where}, with - and with _: leave one out")
            spelled[dashed] = value
        return spelled

    def _refuse(self, key: str, where: str, known: Mapping[str, object]) -> NoReturn:
        for setting in known.values():
            if isinstance(setting, Setting) and key in setting.negations:
                raise ConfigError(f"{self._file!r}: {key} {where} is no setting: write {setting.key} = false")
        raise ConfigError(f"{self._file!r}: {key} {where} is no setting{did_you_mean(key, known)}")

    def _check(self, setting: Setting, value: object, where: str) -> None:
        try:
            setting.as_typed(value)
        except ValueError:
            near = did_you_mean(value, setting.choices) if isinstance(value, str) else ""
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            raise ConfigError(
                f"{self._file!r}: {setting.key} {where} takes {setting.expected}; got {shown}{near}"
            ) from None


def _table_name(words: Iterable[str]) -> str:
    return f"[{'.'.join(words)}]"


# ---- options ----------------------------------------------------------------------------------------------


def _take_config(context: typer.Context, path: str | None) -> str | None:
    if path is not None and not context.resilient_parsing:
        name = without_secrets(path)
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"the settings in {name!r} cannot be read ({error.strerror}): name a TOML file"
            ) from error
        _remember(context, f"{name}: SHA-256 {hashlib.sha256(data).hexdigest()}")
        _add_defaults(context, name, data, wins=True)
    return path


def _take_preset(context: typer.Context, name: PresetName | None) -> PresetName | None:
    if name is not None and not context.resilient_parsing:
        _remember(context, f"preset {name}")
        _add_defaults(context, f"preset {name}", (PRESETS / f"{name}.toml").read_bytes(), wins=False)
    return name


def _remember(context: typer.Context, source: str) -> None:
    context.meta.setdefault(__name__, []).append(one_line(source))


def _add_defaults(context: typer.Context, name: str, data: bytes, *, wins: bool) -> None:
    """Let what a file says of the command be its defaults.

    Args:
        wins: Over those that it has got already, or yields to them.
    """
    values = read_values(name, data, cast("TyperGroup", context.find_root().command))
    new = values.of(_words(context), settings_of(cast("TyperCommand", context.command)))
    old = dict(context.default_map or {})
    strong, weak = (new, old) if wins else (old, new)
    beaten = _beaten_by([each for each, value in strong.items() if value])
    context.default_map = {each: value for each, value in weak.items() if each not in beaten} | strong


def _words(context: typer.Context) -> tuple[str, ...]:
    """The words that call the command, without the program's name."""
    above = context.parent
    return () if above is None else (*_words(cast("typer.Context", above)), str(context.command.name))


def _beaten_by(names: Collection[str]) -> set[str]:
    """The parameters that are out of force where others are set."""
    beaten: set[str] = set()
    for sides in _ALTERNATIVES:
        taken = [any(name in names for name in side) for side in sides]
        if any(taken):
            beaten.update(*(side for side, is_taken in zip(sides, taken, strict=True) if not is_taken))
    return beaten


def _ask_for_nothing(context: typer.Context, wanted: bool) -> bool:
    """Settings can be printed before all that a run needs is given."""
    if wanted:
        for parameter in context.command.params:
            parameter.required = False
    return wanted


Preset = Annotated[
    PresetName | None,
    typer.Option(
        is_eager=True,
        callback=_take_preset,
        rich_help_panel=GENERAL,
        help="Options for a kind of input, which --print-config shows; those of --config and typed ones win.",
    ),
]
_PARAMETERS = {
    "config": Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            is_eager=True,
            callback=_take_config,
            rich_help_panel=GENERAL,
            help="Take options from this TOML file, in which each command has a table; typed ones win.",
        ),
    ],
    "print_config": Annotated[
        bool,
        typer.Option(
            "--print-config",
            is_eager=True,
            callback=_ask_for_nothing,
            rich_help_panel=GENERAL,
            help="Print the options in force as TOML, as --config reads it, and do nothing.",
        ),
    ],
}
"""Of every command. They come first, since others are of what they say."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with --config and --print-config."""

    def settled(context: typer.Context, config: str | None, print_config: bool, **options: object) -> None:
        _put_out_of_force(context, options)
        terminal.settings_from[:] = context.meta.get(__name__, [])
        if print_config:
            with terminal.talking(LogOptions()):
                terminal.print_data(as_toml(context, options))
        else:
            log: dict[str, Any] = {each.name: options[each.name] for each in _LOG_FIELDS}
            with terminal.talking(LogOptions(**log)):
                check_typed(context, options)
            command(**options)

    own = inspect.signature(command)
    named = {"config": None, "print_config": False}
    added = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=named[name], annotation=annotation)
            for name, annotation in _PARAMETERS.items()
        ),
    ]
    return in_place_of(command, settled, [*own.parameters.values(), *added])


def check_typed(context: typer.Context, options: Mapping[str, object]) -> None:
    """See to it that every option that was typed can have an effect.

    Raises:
        ConfigError: As `refuse_idle`.
    """
    sources = _sources(context, options)
    typed = {
        str(each.name): max(each.opts, key=len)
        for each in context.command.params
        if sources.get(str(each.name)) == "COMMANDLINE"
    }
    refuse_idle(_words(context), options, typed)


def _sources(context: typer.Context, options: Iterable[str]) -> dict[str, str]:
    """Where the value of each option is from, as click names it."""
    return {name: getattr(context.get_parameter_source(name), "name", "") for name in options}


def _put_out_of_force(context: typer.Context, options: dict[str, object]) -> None:
    """Set back what a file says where what is typed stands against it."""
    sources = _sources(context, options)
    typed = [name for name, value in options.items() if value and sources[name] in ("COMMANDLINE", "ENVIRONMENT")]
    beaten = _beaten_by(typed)
    for parameter in context.command.params:
        if parameter.name in beaten and sources.get(parameter.name) == "DEFAULT_MAP":
            options[parameter.name] = parameter.default


# ---- printing ---------------------------------------------------------------------------------------------


def as_toml(context: typer.Context, options: Mapping[str, object]) -> str:
    """The options in force as a file that --config reads; in comments what is not set, and so by default.

    Raises:
        ConfigError: A name in them cannot stand in TOML.
    """
    import tomlkit

    words = _words(context)
    table, unset = tomlkit.table(), []
    for key, setting in settings_of(cast("TyperCommand", context.command)).items():
        value = options[setting.parameter]
        if value is None or value in ([], ()):
            unset.append(f"#   {key}{f': {setting.otherwise}' if setting.otherwise else ''}")
        else:
            _add(table, key, [*map(str, value)] if isinstance(value, (list, tuple)) else value)
    document = tomlkit.document()
    document.add(tomlkit.comment(f"motivnet {__version__}: the options of `motivnet {' '.join(words)}`"))
    holder: Any = document
    for word in words[:-1]:
        holder[word] = tomlkit.table(is_super_table=True)
        holder = holder[word]
    holder[words[-1]] = table
    text = tomlkit.dumps(document).rstrip("\n")
    if not _is_utf8(text):
        raise ConfigError("a name among the options is not UTF-8, and TOML holds nothing else: rename it first")
    return "\n".join([text, *(["", "# Not set, and so by default:", *unset] if unset else [])])


def _add(table: Table, key: str, value: object) -> None:
    """Add a value without the secrets in its URLs."""
    safe: Any = [*map(_safe, value)] if isinstance(value, list) else _safe(value)
    table.add(key, safe)
    if safe != value:
        table[key].comment("without the secrets in it, which --config needs")


def _safe(value: object) -> object:
    return without_secrets(value) if isinstance(value, str) else value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
