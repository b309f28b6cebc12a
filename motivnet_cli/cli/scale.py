"""`motivnet status` and `motivnet slurm-script`: runs that many processes share."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motivnet_cli import __version__, errors
from motivnet_cli.cli.annotate import annotate
from motivnet_cli.cli.terminal import print_data, print_json, reporting_errors

if TYPE_CHECKING:
    from motivnet_cli.output.status import OutputStatus

WARNING_SECONDS = 120
"""Slurm's signal comes so long before the time limit: the batches in hand are finished in it."""


def status(
    path: Annotated[str, typer.Argument(metavar="OUT", help="What annotate writes: a .parquet file or a folder.")],
    *,
    shards: Annotated[
        int | None, typer.Option(metavar="N", help="As N shares, however many the run was begun with.")
    ] = None,
    array: Annotated[
        bool,
        typer.Option("--array", help="Print only the tasks to submit again, such as 3,5-7; nothing if all is done."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what of a run is done, missing and failed.

    Example: motivnet status preds.parquet

    It reads only, so it may be asked while the run is at work. The exit code is 0, finished or not.
    """
    with reporting_errors():
        from motivnet_cli.output.status import output_status

        if array and as_json:
            raise errors.ConfigError("give --array or --json: the JSON has the array, too")
        found = output_status(path, shards=shards)
        if array:
            if not (found.finished or found.shards):
                raise errors.ConfigError(f"{path!r} is no shared run: say how many share the rest with --shards N")
            print_data(found.array)
        elif as_json:
            about = {"output": path, **dataclasses.asdict(found), "missing": found.missing, "array": found.array}
            print_json(about)
        else:
            print_data("\n".join(_lines(path, found)))


def _lines(path: str, status: OutputStatus) -> list[str]:
    lines = [
        f"{path}: {'finished' if status.finished else 'not finished'}",
        f"inputs: {status.done:,} of {status.inputs:,} done, {status.missing:,} missing; {status.failed:,} failed",
        f"faces: {status.faces:,}",
    ]
    if status.amending:
        lines.append("amended by --extend or --retry-failed: {:,} of {:,} inputs done".format(*status.amending))
    if status.shards:
        undone = [shard for shard in status.shards if shard.done < shard.inputs]
        lines.append(f"shards: {len(status.shards) - len(undone):,} of {len(status.shards):,} done")
        lines += [f"  {each.index} (task {each.number}): {each.done:,} of {each.inputs:,} inputs" for each in undone]
        lines.append(f"to submit: --array={status.array}")
    return lines


def slurm_script(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="ARGUMENTS", help="After --, as annotate takes them: with --out, without --shard."),
    ],
    *,
    shards: Annotated[int, typer.Option(min=1, metavar="N", help="Tasks of the array: one for each GPU, say.")],
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of a task.")] = 1,
    gres: Annotated[str | None, typer.Option(help="Such as gpu:a100:1, in place of --gpus.")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs of a task; each reads and finds faces in a thread.")] = 4,
    mem: Annotated[str | None, typer.Option(help="Memory of a task, such as 16G.")] = None,
    time: Annotated[str | None, typer.Option(help="Time limit; a task that meets it is queued again.")] = None,
    partition: Annotated[str | None, typer.Option(help="Where to run.")] = None,
    account: Annotated[str | None, typer.Option(help="Who pays.")] = None,
    job_name: Annotated[str, typer.Option(help="Name of the job.")] = "motivnet",
    log: Annotated[str, typer.Option(metavar="FILE", help="%A is the job, %a the task.")] = "motivnet-%A_%a.log",
    container: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="An Apptainer image that motivnet runs in.")
    ] = None,
) -> None:
    """Print a Slurm script for an array of tasks.

    Example: motivnet slurm-script --shards 8 --time 4:00:00 -- ./photos --out preds.parquet > run.sh

    The tasks share one run. Then: sbatch run.sh. A task that meets its time limit commits what it has and is queued
    again. What is missing in the end: sbatch --array=$(motivnet status preds.parquet --array) run.sh
    """
    alone = typer.Typer(rich_markup_mode=None)
    alone.command("annotate")(annotate)
    given = typer.main.get_command(alone).make_context("motivnet annotate", list(arguments)).params
    with reporting_errors():
        _check_arguments(given)
        has_gpu = gres is not None or gpus > 0
        options = {
            "job-name": job_name,
            "array": f"0-{shards - 1}",
            "ntasks": 1,
            "cpus-per-task": cpus,
            "gpus-per-task": gpus if has_gpu and gres is None else None,
            "gres": gres,
            "mem": mem,
            "time": time,
            "partition": partition,
            "account": account,
            "output": log,
            "open-mode": "append",
            "requeue": "",
            "signal": f"B:TERM@{WARNING_SECONDS}",
        }
        runner = [] if container is None else ["apptainer", "exec", *(["--nv"] if has_gpu else []), container]
        command = [*runner, "motivnet", "annotate", "--shard", "auto", *arguments]
        print_data(_script(options, command, given["out"]))


def _check_arguments(given: dict[str, Any]) -> None:
    """Whether a command line of annotate can be the work of an array."""
    if given["shard"] is not None:
        raise errors.ConfigError("leave out --shard: the script says --shard auto, and --shards N says how many")
    if given["out"] == "-":
        raise errors.ConfigError("the tasks of an array write one output: name a file or a folder with --out, not -")
    if "-" in {*(given["inputs"] or ()), *(given["files_from"] or ()), *(given["files0_from"] or ())}:
        raise errors.ConfigError("a job has no stdin: write the list of inputs to a file, and name it")
    for option in ("overwrite", "extend", "retry_failed", "dry_run"):
        if given[option]:
            raise errors.ConfigError(f"--{option.replace('_', '-')} is the work of one call, not of an array")


def _script(options: dict[str, Any], command: list[str], out: str) -> str:
    lines = []
    for name, value in options.items():
        if value is not None:
            lines.append(f"#SBATCH --{name}={shlex.quote(str(value))}" if value != "" else f"#SBATCH --{name}")
    directives = "\n".join(lines)
    if directives.count("\n") >= len(lines) or "\n" in out:
        raise errors.ConfigError("a script has no place for line breaks in --out or in an option of sbatch")
    return _SCRIPT.format(directives=directives, version=__version__, out=shlex.quote(out), command=shlex.join(command))


_SCRIPT = """\
#!/bin/bash
{directives}

# Made by motivnet {version}. Submit what is missing with
#   sbatch --array="$(motivnet status {out} --array)" THIS_FILE
# and look at all with
#   motivnet status {out}

task=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
state() {{ squeue --noheader --jobs="$task" --format=%T; }}

# Slurm's early signal comes to this shell alone (B:), which passes it on. When the job is cancelled, all of its
# processes have it already, and a second one would end motivnet before it has committed what is in hand.
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

# 75: stopped, and to be gone on with; 143: stopped before it had begun. A cancelled job is not to come back. By its
# number alone (SLURM_JOB_ID), the last task would queue all the others again, too.
trap '' TERM
if [ "$code" -eq 75 ] || [ "$code" -eq 143 ]; then
  if [ "$(state)" = RUNNING ]; then scontrol requeue "$task"; fi
fi
exit "$code"\
"""
