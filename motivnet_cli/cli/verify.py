"""`motivnet verify`: whether an output is whole."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.cli.log import phase
from motivnet_cli.cli.options import AsJson, Device, LogOptions, OptionGroup, Predictions, StoreFolder, Weights
from motivnet_cli.cli.terminal import importing, print_json, print_lines, table_lines, talking
from motivnet_cli.config import ModelConfig
from motivnet_cli.output.findings import CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.engine.again import SampleConfig
    from motivnet_cli.output.findings import Verification


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleOptions(OptionGroup):
    """Which rows are computed again, and with what."""

    panel = "Sample"

    sample: Annotated[
        int | None,
        typer.Option(metavar="N", help="Also compute N faces, drawn at random, again from their inputs, and compare."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same faces.")] = 7
    inputs_from: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="The inputs lie below this folder by their names. Default: where the run had them."
        ),
    ] = None
    weights: Weights = None
    store: StoreFolder = None
    device: Device = "auto"

    def config(self) -> SampleConfig | None:
        """What to compute again; None for nothing."""
        if self.sample is None:
            if self.inputs_from is not None or self.weights is not None:
                raise errors.ConfigError("--inputs-from and --weights are for --sample N: say how many faces")
            return None
        from motivnet_cli.engine.again import SampleConfig

        return SampleConfig(
            size=self.sample,
            seed=self.seed,
            inputs_from=self.inputs_from,
            model=ModelConfig(weights=self.weights, store=self.store, device=self.device),
        )


def verify(
    path: Predictions,
    *,
    sampling: SampleOptions,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Read an output from end to end, and say whether it is whole.

    Example: motivnet verify preds.parquet

    It only reads. The exit code is 0 if every check holds, and 5 if one does not or the run is not finished.
    """
    with talking(log):
        phase(f"verify: reading {path}")
        sample = sampling.config()
        found = _verified(path, sample)
        if as_json:
            print_json({"whole": found.is_whole, **dataclasses.asdict(found)})
        else:
            print_lines(_lines(found))
        if not found.is_whole:
            raise typer.Exit(errors.EXIT_NOT_WHOLE)


def _verified(path: str, sample: SampleConfig | None) -> Verification:
    from motivnet_cli.output.verify import verify_output

    found = verify_output(path)
    if sample is None:
        return found
    if not found.is_readable:
        return found.replacing(CheckResult("sample", "skipped", 0, (), "rows can be taken from a whole output only"))
    with importing():
        from motivnet_cli.engine.again import check_sample
    phase(f"computing {sample.size:,} faces again")
    return found.replacing(check_sample(path, sample))


def _result(check: CheckResult) -> str:
    result = check.result if check.result != "wrong" else f"wrong ({check.faults:,})"
    return f"{result}: {check.note}" if check.note else result


def _lines(found: Verification) -> Iterator[str]:
    heads = table_lines([(check.check, _result(check)) for check in found.checks])
    for check, head in zip(found.checks, heads, strict=True):
        yield head
        for fault in check.examples:
            yield f"    {fault.where}: {fault.what}"
        if check.faults > len(check.examples):
            yield f"    and more, {check.faults:,} in all"
    is_whole = "whole" if found.is_whole else "not whole"
    yield f"{found.output}: {is_whole}; {found.inputs:,} inputs and {found.faces:,} faces were read"
