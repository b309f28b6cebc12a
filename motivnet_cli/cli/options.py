"""What the options of the commands have in common.

An option that several commands take is an alias here, so that it reads the same everywhere. A command with many
options takes them in groups: dataclasses whose fields are options.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

import typer
from typer.models import OptionInfo

from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.config import ModelConfig, Precision
from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from motivnet_cli.export.filters import Filters

Model = Annotated[
    str | None,
    typer.Option(
        help="A model that `motivnet models` lists, such as motivnet-1b, sapiens-1b or expression-net, or one in the "
        f"store. Default: {DEFAULT_MODEL}, or what the file of --weights holds.",
        metavar="MODEL",
        rich_help_panel="Model",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="A checkpoint file (.pth or .safetensors), recorded under its own name. It must hold the network of the "
        "model, if one is named.",
        metavar="FILE",
        rich_help_panel="Model",
    ),
]
StoreFolder = Annotated[
    str | None,
    typer.Option(
        envvar="MOTIVNET_HOME",
        help="Folder of the model store. Default: the platform's cache folder.",
        metavar="FOLDER",
        rich_help_panel="Model",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where the network runs. auto: a GPU where there is one, else the CPU.",
        metavar="auto|cpu|cuda|cuda:N|mps",
        rich_help_panel="Machine",
    ),
]
BatchSize = Annotated[
    str, typer.Option(help="Faces per pass of the network.", metavar="auto|N", rich_help_panel="Machine")
]
PrecisionName = Annotated[
    Precision,
    typer.Option(
        help="auto: bf16 where the device computes in it, fp16 on an older GPU, else fp32, which a small network "
        "always gets. fp32 does without TF32.",
        rich_help_panel="Model",
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the network first, which takes a minute or more.", rich_help_panel="Machine"
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads that read and find faces. Default: the cores this process may use.", rich_help_panel="Machine"
    ),
]
AcceptTerms = Annotated[
    bool,
    typer.Option(
        "--accept-terms",
        help="Accept the model's terms without being asked; missing weights are then downloaded first.",
        rich_help_panel="Model",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result to stdout as JSON.")]
Predictions = Annotated[
    str, typer.Argument(metavar="PREDICTIONS", help="An output of annotate: a .parquet file or a folder.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]


@dataclasses.dataclass(frozen=True)
class OptionGroup:
    """Base of the option groups: dataclasses whose every field is an option and has a default."""

    panel: ClassVar[str | None] = None
    """The heading in --help of all options of the group that name no other by `rich_help_panel`."""


LogFormat = Literal["text", "json"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogOptions(OptionGroup):
    """What a command says on stderr and in a file; every command takes these."""

    panel = "Log"

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")] = False
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Also say what was decided and why, and where a fault happened."),
    ] = False
    log_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Append to this file, with the time, all that is said.")
    ] = None
    log_format: Annotated[
        LogFormat,
        typer.Option(help="json: a JSON object a line, in the --log-file; without one, on stderr."),
    ] = "text"

    @property
    def format_on_stderr(self) -> LogFormat:
        return self.log_format if self.log_file is None else "text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions(OptionGroup):
    """Which network runs, and on what."""

    panel = "Model"

    model: Model = None
    weights: Weights = None
    store: StoreFolder = None
    accept_terms: AcceptTerms = False
    device: Device = "auto"
    batch_size: BatchSize = "auto"

    def config(self) -> ModelConfig:
        return ModelConfig(
            name=self.model,
            weights=self.weights,
            store=self.store,
            device=self.device,
            batch_size=_parse_batch_size(self.batch_size),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterOptions(OptionGroup):
    """What is done to the emotions of videos before their episodes are taken."""

    panel = "Video"

    smooth: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Average the probabilities of a person over so long, centred on each frame."
        ),
    ] = None
    min_duration: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Join an emotion that lasts less long to the one before it."),
    ] = None

    def filters(self) -> Filters:
        from motivnet_cli.export.filters import Filters

        return Filters(smooth_s=self.smooth, min_duration_s=self.min_duration)


def _parse_batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--batch-size takes a whole number or auto, got {text!r}") from None


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer takes it: every parameter that is an option group gives way to the group's options.

    Option groups must be keyword-only parameters. An option beside them that names no heading in --help is of Output.
    """
    groups: dict[str, type[OptionGroup]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if inspect.isclass(parameter.annotation) and issubclass(parameter.annotation, OptionGroup):
            groups[name] = parameter.annotation
            parameters += _parameters_of(parameter.annotation)  # type: ignore[arg-type] # a class is hashable
        else:
            parameters.append(parameter.replace(annotation=_described(parameter.annotation, "Output")))

    def expanded(**options: object) -> None:
        for name, group in groups.items():
            options[name] = group(**{field.name: options.pop(field.name) for field in dataclasses.fields(group)})
        command(**options)

    return in_place_of(command, expanded, parameters)


def in_place_of(
    command: Callable[..., None], stand_in: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """The stand-in with the name and the help of the command, and with these parameters as Typer reads them."""
    stand_in.__name__, stand_in.__doc__ = command.__name__, command.__doc__
    stand_in.__annotations__ = {each.name: each.annotation for each in parameters}
    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return stand_in


@functools.cache  # every command has the options of its log
def _parameters_of(group: type[OptionGroup]) -> tuple[inspect.Parameter, ...]:
    hints: dict[str, object] = {}
    for each in reversed(group.__mro__):  # not typing.get_type_hints, which on Python 3.10 hides what Annotated holds
        hints |= inspect.get_annotations(each, eval_str=True)
    return tuple(
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_described(hints[field.name], group.panel),
        )
        for field in dataclasses.fields(group)
    )


def _described(annotation: object, panel: str | None) -> object:
    """The annotation of an option with its heading in --help, and with what it takes as people write it."""
    kind, info = get_args(annotation)
    info = copy.copy(info)  # commands share it
    if isinstance(info, OptionInfo):
        info.rich_help_panel = info.rich_help_panel or panel
        _negatable(info, kind)
    if info.metavar is None:
        kinds = [inner for each in get_args(kind) or (kind,) for inner in (each, *get_args(each))]
        words = [each for each in kinds if isinstance(each, str)]
        if words:
            info.metavar = "|".join(words)
        elif int in kinds or float in kinds:
            info.metavar = "N" if int in kinds else "NUMBER"
    return Annotated[kind, info]


def _negatable(info: OptionInfo, kind: object) -> None:
    """Give a flag its --no- form, by which what a file has switched on is switched off."""
    names = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    if kind is bool and names and "/" not in "".join(names):
        *short, long = sorted(names, key=len)
        info.default, info.param_decls = ..., (*short, f"{long}/--no-{long.removeprefix('--')}")
