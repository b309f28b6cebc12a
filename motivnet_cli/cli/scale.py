"""`motivnet status`, `slurm-script` and `plan`: runs that many processes share."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

from motivnet_cli import __version__, errors
from motivnet_cli.cli.log import warn
from motivnet_cli.cli.options import AsJson, LogOptions, OptionGroup, Predictions
from motivnet_cli.cli.progress import size_text
from motivnet_cli.cli.settings import check_typed
from motivnet_cli.cli.terminal import print_data, print_json, print_lines, table_lines, talking
from motivnet_cli.remote.urls import shown

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer.core import TyperGroup

    from motivnet_cli.output.estimate import Estimate
    from motivnet_cli.output.status import OutputStatus

WARNING_SECONDS = 120
"""How long before the time limit Slurm sends its signal: long enough to finish the current batches."""


def status(
    path: Predictions,
    *,
    shards: Annotated[
        int | None,
        typer.Option(
            help="Show the work as N shards, however many the run was started with.", rich_help_panel="Cluster"
        ),
    ] = None,
    array: Annotated[
        bool,
        typer.Option(
            "--array",
            help="Print only the tasks to submit again, such as 3,5-7; nothing if all is done.",
            rich_help_panel="Cluster",
        ),
    ] = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Show how much of a run is done, missing and failed.

    Example: motivnet status preds.parquet

    It only reads, so it can be used while the run is going on. The exit code is 0, finished or not, and 5 where files
    that were written are gone.
    """
    with talking(log):
        from motivnet_cli.output.status import output_status

        if array and as_json:
            raise errors.ConfigError("give --array or --json, not both: the JSON has the array too")
        found = output_status(path, shards=shards)
        path = shown(path)
        if array:
            if not (found.finished or found.shards):
                raise errors.ConfigError(
                    f"{path!r} has no shards: say among how many tasks the rest is to be shared with --shards N"
                )
            print_data(found.array)
        elif as_json:
            about = {"output": path, **dataclasses.asdict(found), "missing": found.missing, "array": found.array}
            print_json(about)
        else:
            print_lines(_lines(path, found))
        if found.lost:
            warn(f"{_gone(found)}: motivnet verify names them, and annotate --overwrite starts anew")
            raise typer.Exit(errors.EXIT_NOT_WHOLE)


def _gone(found: OutputStatus) -> str:
    files = "1 file that was written is" if len(found.lost) == 1 else f"{len(found.lost):,} files that were written are"
    return f"{files} gone, such as {found.lost[0]}"


def _lines(path: str, status: OutputStatus) -> list[str]:
    lines = [
        f"{path}: {'finished' if status.finished else 'not finished'}",
        f"inputs: {status.done:,} of {status.inputs:,} done, {status.missing:,} missing; {status.failed:,} failed",
        f"faces: {status.faces:,}" + "".join(f", {n:,} {source}" for source, n in status.face_sources.items()),
    ]
    if status.amending:
        lines.append("amended by --extend or --retry-failed: {:,} of {:,} inputs done".format(*status.amending))
    if status.shards:
        undone = [shard for shard in status.shards if shard.done < shard.inputs]
        lines.append(f"shards: {len(status.shards) - len(undone):,} of {len(status.shards):,} done")
        lines += [f"  {each.index} (task {each.number}): {each.done:,} of {each.inputs:,} inputs" for each in undone]
        lines.append(f"to submit: --array={status.array}")
    return lines


def plan(
    *,
    estimate: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE",
            help="What was measured on inputs like yours: a file with the JSON of annotate --json or bench --json, or "
            "an output, for sizes. The first that has a figure counts.",
            rich_help_panel="Inputs",
        ),
    ],
    inputs: Annotated[int, typer.Option(min=1, help="Pictures that the run will have.", rich_help_panel="Inputs")],
    input_bytes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Size of a picture. Default: the mean of an output.",
            show_default=False,
            rich_help_panel="Inputs",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(min=1, help="Processes with a network each, such as one a GPU.", rich_help_panel="Cluster"),
    ] = 1,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Estimate what a large run will take, from the rates and sizes of a small one: hours, bytes, files.

    Example: motivnet plan --estimate run.json --estimate preds.parquet --inputs 100000000 --workers 64

    It is arithmetic, not a measurement; what none of the sources says is unknown.
    """
    with talking(log):
        from motivnet_cli.output.estimate import estimate as work_out

        found = work_out(estimate, inputs=inputs, workers=workers, input_bytes=input_bytes)
        if as_json:
            print_json({"kind": "arithmetic, not a measurement", **dataclasses.asdict(found)})
        else:
            print_lines(table_lines(_lines_of_estimate(found)))


def _lines_of_estimate(found: Estimate) -> list[list[str]]:
    rows = [
        ("faces", _figure(found.faces.value), found.faces),
        ("hours of one worker", _figure(found.worker_hours.value), found.worker_hours),
        (f"hours of {found.workers:,} workers", _figure(found.hours.value), found.hours),
        ("bytes read", _bytes(found.read_bytes.value), found.read_bytes),
        ("bytes read a second", _bytes(found.read_bytes_per_s.value), found.read_bytes_per_s),
        ("bytes written", _bytes(found.written_bytes.value), found.written_bytes),
        ("units", _figure(found.units.value), found.units),
        ("files", _figure(found.files.value), found.files),
    ]
    return [
        ["arithmetic", f"{found.inputs:,} inputs", "not a measurement"],
        *([name, value, figure.why] for name, value, figure in rows),
        ["bound by", found.bound_by or "unknown", "the stage that the others wait for: make it faster first"],
    ]


def _figure(value: float | None) -> str:
    """Three significant digits: a rate says no more."""
    return "unknown" if value is None else f"{float(f'{value:.3g}'):,.12g}"


def _bytes(value: float | None) -> str:
    return "unknown" if value is None else size_text(round(value))


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobOptions(OptionGroup):
    """What Slurm is asked for."""

    panel = "Job"

    gpus: Annotated[int, typer.Option(min=0, help="GPUs per task.")] = 1
    gres: Annotated[
        str | None,
        typer.Option(metavar="GRES", help="Resources per task in place of --gpus, such as gpu:a100:1."),
    ] = None
    cpus: Annotated[int, typer.Option(min=1, help="CPUs per task; each runs a thread that reads and finds faces.")] = 4
    mem: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory per task, such as 16G.")] = None
    time: Annotated[
        str | None, typer.Option(metavar="H:MM:SS", help="Time limit; a task that reaches it is queued again.")
    ] = None
    partition: Annotated[str | None, typer.Option(metavar="NAME", help="Partition to run in.")] = None
    account: Annotated[str | None, typer.Option(metavar="NAME", help="Account to charge.")] = None
    job_name: Annotated[str, typer.Option(metavar="NAME", help="Name of the job.")] = "motivnet"
    log: Annotated[str, typer.Option(metavar="FILE", help="Log file; %A is the job, %a the task.")] = (
        "motivnet-%A_%a.log"
    )

    @property
    def has_gpu(self) -> bool:
        return self.gres is not None or self.gpus > 0

    def sbatch_options(self, *, shards: int) -> dict[str, str | int | None]:
        """By name, with their values: None leaves one out, an empty one is a flag."""
        return {
            "job-name": self.job_name,
            "array": f"0-{shards - 1}",
            "ntasks": 1,
            "cpus-per-task": self.cpus,
            "gpus-per-task": self.gpus if self.has_gpu and self.gres is None else None,
            "gres": self.gres,
            "mem": self.mem,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "output": self.log,
            "open-mode": "append",
            "requeue": "",
            "signal": f"B:TERM@{WARNING_SECONDS}",
        }


def slurm_script(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="ARGUMENT", help="After --, the arguments of annotate: with --out, and without --shard."
        ),
    ],
    *,
    shards: Annotated[
        int, typer.Option(min=1, help="Number of array tasks, such as one per GPU.", rich_help_panel="Job")
    ],
    job: JobOptions,
    container: Annotated[
        str | None, typer.Option(metavar="FILE", help="Apptainer image to run motivnet in.", rich_help_panel="Job")
    ] = None,
    log: LogOptions,
) -> None:
    """Print a Slurm script for an array of tasks.

    Example:
      motivnet slurm-script --shards 8 -- ./photos --out preds.parquet > run.sh

    The tasks share one run. Submit the script with: sbatch run.sh. A task that reaches its time limit commits what it
    has done and is queued again. If tasks are missing in the end, submit those:
      sbatch --array=$(motivnet status preds.parquet --array) run.sh
    """
    parsed = _parse(arguments)  # a mistake in them is one of usage, which Typer reports
    with talking(log):
        _check(parsed)
        runner = [] if container is None else ["apptainer", "exec", *(["--nv"] if job.has_gpu else []), container]
        command = [*runner, "motivnet", "annotate", "--shard", "auto", *arguments]
        print_data(_script(job.sbatch_options(shards=shards), command, str(parsed.params["out"])))


def _parse(arguments: Sequence[str]) -> Context:
    """What annotate makes of its options."""
    from motivnet_cli.cli import app

    root = cast("TyperGroup", typer.main.get_command(app))
    above = root.context_class(root, info_name="motivnet")
    return root.commands["annotate"].make_context("annotate", list(arguments), parent=above)


def _check(context: Context) -> None:
    """Refuse what the tasks of an array cannot have."""
    parsed = context.params
    if parsed["shard"] is not None:
        raise errors.ConfigError("leave out --shard: the script says --shard auto, and --shards N says how many")
    if parsed["out"] == "-":
        raise errors.ConfigError("the tasks of an array write one output: name a file or a folder with --out, not -")
    if any(parsed[name] and "-" in cast("list[str]", parsed[name]) for name in ("inputs", "files_from", "files0_from")):
        raise errors.ConfigError("a job has no stdin: write the list of inputs to a file, and name it")
    for option in ("overwrite", "extend", "retry_failed", "dry_run", "print_config"):
        if parsed[option]:
            raise errors.ConfigError(f"--{option.replace('_', '-')} is the work of one call, not of an array")
    check_typed(cast("typer.Context", context), parsed)


def _script(options: Mapping[str, str | int | None], command: Sequence[str], out: str) -> str:
    lines = []
    for name, value in options.items():
        if value is not None:
            lines.append(f"#SBATCH --{name}={shlex.quote(str(value))}" if value != "" else f"#SBATCH --{name}")
    directives = "\n".join(lines)
    if directives.count("\n") >= len(lines) or "\n" in out:
        raise errors.ConfigError("a script cannot hold line breaks in --out or in an option of sbatch")
    return _SCRIPT.format(directives=directives, version=__version__, out=shlex.quote(out), command=shlex.join(command))


_SCRIPT = """\
#!/bin/bash
{directives}

# Made by motivnet {version}. Submit missing tasks again with
#   sbatch --array="$(motivnet status {out} --array)" THIS_FILE
# and show the state of the run with
#   motivnet status {out}

task=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
state() {{ squeue --noheader --jobs="$task" --format=%T; }}

# Slurm sends its early signal to this shell alone (B:), which passes it on. When the job is cancelled, all of its
# processes get the signal anyway, and a second one would end motivnet before it has committed its current batches.
caught=
pass_on() {{
  caught=1
  if [ -n "$pid" ] && [ "$(state)" != COMPLETING ]; then kill -TERM "$pid"; fi
}}
pid=
trap pass_on TERM

{command} &
pid=$!
if [ -n "$caught" ]; then pass_on; fi
while
  caught=
  wait "$pid"
  code=$?
  [ -n "$caught" ]  # a signal ended the waiting, and not motivnet
do :; done

# 75: stopped, to be continued; 143: stopped before it had started. A cancelled job is not queued again. The last task
# needs its full id here: its SLURM_JOB_ID is that of the whole array.
trap '' TERM
if [ "$code" -eq 75 ] || [ "$code" -eq 143 ]; then
  if [ "$(state)" = RUNNING ]; then scontrol requeue "$task"; fi
fi
exit "$code"\
"""
