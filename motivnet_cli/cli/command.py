"""The one way in which commands are made: with -h, grouped help, short usage errors, and options in groups.

`App` is a command with commands below it. What every command has is added in `App.command`: an option that all of them
take is one more parameter there, and what must happen before a command's own options are read belongs into
`_Spoken.parse_args`, which every command and every group goes through.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import typer
from typer.core import TyperCommand, TyperGroup

from motivnet_cli.cli import help
from motivnet_cli.cli.options import expand_groups, in_place_of
from motivnet_cli.cli.settings import with_settings
from motivnet_cli.errors import EXIT_USAGE, ConfigError, did_you_mean, one_line

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer._click.formatting import HelpFormatter
    from typer.core import TyperOption

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""The base of all mistakes in a command line; Typer exports only the one class."""

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., None])


class App(typer.Typer):
    """A command with commands below it."""

    def __init__(self, name: str, *, help: str, epilog: str | None = None) -> None:
        super().__init__(
            name=name,
            cls=Group,
            help=help,
            epilog=epilog,
            context_settings={"help_option_names": ["-h", "--help"]},
            rich_markup_mode=None,  # boxes and markdown double the time that --help takes (benchmarks/startup.py)
            add_completion=False,
            pretty_exceptions_enable=False,
        )

    def command(self, name: str | None = None, *, group: str | None = None) -> Callable[[AnyCommand], AnyCommand]:  # type: ignore[override]
        """A decorator that adds a function as a command.

        Args:
            name: None takes the function's.
            group: The heading that it stands under in the help of this app.
        """

        def add(function: AnyCommand) -> AnyCommand:
            stand_in = in_place_of(function, lambda: None, ())
            stand_in.__dict__["function"] = function
            super(App, self).command(name, cls=Command, rich_help_panel=group)(stand_in)
            return function

        return add


class _Spoken:
    """What commands and groups have in common: help in groups, and mistakes answered in a line or two."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write(help.page(self, ctx))  # type: ignore[arg-type]

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        option: TyperOption | None = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.help, option.rich_help_panel = "Show this help.", help.GENERAL
        return option

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        words = list(args)
        with _answering(ctx, words):
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest


class Command(_Spoken, TyperCommand):
    """A command that does something.

    Its options are made when one asks for them: to make those of all commands takes as long as the rest of --help.
    """

    _function: Callable[..., None]

    @property
    def params(self) -> list[Any]:
        return self._made.params

    @params.setter
    def params(self, of_stand_in: list[Any]) -> None:
        pass

    @property
    def callback(self) -> Callable[..., Any] | None:
        return self._made.callback

    @callback.setter
    def callback(self, stand_in: Callable[..., Any] | None) -> None:
        self._function = getattr(stand_in, "function")  # noqa: B009 - it is one that `App.command` made

    @functools.cached_property
    def _made(self) -> TyperCommand:
        alone = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
        alone.command(self.name)(with_settings(expand_groups(self._function)))
        return cast("TyperCommand", typer.main.get_command(alone))


class Group(_Spoken, TyperGroup):
    """A command with commands below it; alone it shows its help and exits with 2."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(EXIT_USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            _fail(ctx, f"there is no command {args[0]}{did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@contextlib.contextmanager
def _answering(ctx: Context, words: list[str]) -> Iterator[None]:
    """Answer a mistake in the words of a command."""
    try:
        yield
    except _UsageError as error:
        _fail(ctx, _sentence(error, ctx, words))
    except ConfigError as error:  # of a file that --config names
        _fail(ctx, str(error))


def _fail(ctx: Context, sentence: str) -> NoReturn:
    typer.echo(f"error: {one_line(sentence)}\nSee: {ctx.command_path} --help", err=True)
    raise typer.Exit(EXIT_USAGE)


def _sentence(error: Exception, ctx: Context, words: list[str]) -> str:
    """What is wrong, the same with every version of Typer."""
    options = {name: each for each in ctx.command.get_params(ctx) for name in (*each.opts, *each.secondary_opts)}
    if name := getattr(error, "option_name", ""):
        if name not in options:
            return f"there is no option {name}{did_you_mean(name, options)}"
        option: TyperOption = options[name]  # type: ignore[assignment]
        return f"{name} takes no value" if option.is_flag else f"{name} needs a value: {option.metavar}"
    parameter = getattr(error, "param", None)
    if parameter is None:
        message: str = error.format_message()  # type: ignore[attr-defined]
        return message[:1].lower() + message[1:].removesuffix(".")
    name = help.long_name(parameter)
    if hasattr(error, "param_type"):
        return f"{name} is missing"
    if parameter.param_type_name == "argument":
        name, given = ctx.command_path, next((word for word in words if not word.startswith("-")), None)
    else:
        given = _given(parameter.opts, words)
    if given is None:  # it is from the environment
        return f"{name} takes {help.wanted(parameter)}"
    return f"{name} takes {help.wanted(parameter)}, got {given!r}{did_you_mean(given, help.choices(parameter))}"


def _given(names: Iterable[str], words: list[str]) -> str | None:
    """The last value of an option among the words of a command; None if it is not there."""
    values = [after for word, after in itertools.pairwise(words) if word in names]
    values += [word.partition("=")[2] for word in words if word.partition("=")[0] in names and "=" in word]
    return values[-1] if values else None
