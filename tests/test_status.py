"""`motivnet status` and `motivnet slurm-script`: what is done and what is missing, and a script that bash takes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess

import polars
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig, OutputConfig, RunConfig, ScaleConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.status import OutputStatus, output_status
from motivnet_cli.run import annotate
from motivnet_cli.shards import ArrayTask, Shard
from tests.pictures import face_photo

NUM_PICTURES = 24
FAILED = (5, 21)


def motivnet(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    face_photo(folder / "00.png", size=(64, 64), faces=((32, 32, 40),))
    for number in range(1, NUM_PICTURES):
        shutil.copy(folder / "00.png", folder / f"{number:02}.png")
    for number in FAILED:
        (folder / f"{number:02}.png").write_bytes(b"not a picture")
    return folder


def run(pictures, out, *, shard=None, stop_after=None, **output):
    """A run that is stopped before its n-th input."""
    config = RunConfig(
        inputs=InputConfig(paths=(str(pictures),)),
        model=ModelConfig(name="expression-net", device="cpu", batch_size=1),
        faces=FaceConfig(mode="whole"),
        loader=LoaderConfig(threads=1),
        output=OutputConfig(path=str(out), commit_seconds=0, **output),
        scale=ScaleConfig(shard=shard),
    )
    asked = itertools.count()
    return annotate(config, stop=lambda: stop_after is not None and next(asked) >= stop_after)


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_a_run_before_and_after_its_end(pictures, tmp_path, name):
    """A half-done output says what is missing; a finished one that nothing is; both count what failed."""
    out = tmp_path / name
    done = run(pictures, out, stop_after=9).done
    half = output_status(out)
    run(pictures, out)

    assert 5 < done < 21
    assert half == OutputStatus(False, NUM_PICTURES, done, 1, done - 1, None, (), {"whole": done - 1})
    assert half.missing == NUM_PICTURES - done
    assert output_status(out) == OutputStatus(
        True, NUM_PICTURES, NUM_PICTURES, 2, NUM_PICTURES - 2, None, (), {"whole": NUM_PICTURES - 2}
    )


def test_the_tasks_are_known_as_soon_as_the_plan_is(pictures, tmp_path, monkeypatch):
    """A task that dies when it has listed the inputs leaves a run that says which tasks are to be submitted."""
    freeze = Ledger.freeze

    def frozen_and_killed(*arguments, **options):
        freeze(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "freeze", frozen_and_killed)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "p", shard=ArrayTask(2, first=1, count=4))

    assert output_status(tmp_path / "p").array == "1-4"


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_shards(pictures, tmp_path, name):
    """Each shard's part is counted, the tasks with something missing are named by the scheduler's numbers."""
    out = tmp_path / name
    shards = [ArrayTask(number, first=1, count=4) for number in range(1, 5)]
    run(pictures, out, shard=shards[1])
    run(pictures, out, shard=shards[3], stop_after=3)
    status = output_status(out)
    seen = [(each.index, each.number, each.inputs) for each in status.shards]
    as_eight = output_status(out, shards=8)

    assert seen == [(0, 1, 6), (1, 2, 6), (2, 3, 6), (3, 4, 6)]
    assert [each.done for each in status.shards[:3]] == [0, 6, 0]
    assert 0 < status.shards[3].done < 6
    assert status.done == 6 + status.shards[3].done
    assert status.array == "1,3-4"
    assert sum(each.inputs for each in as_eight.shards) == NUM_PICTURES
    assert sum(each.done for each in as_eight.shards) == status.done

    for index in (0, 2, 3):
        run(pictures, out, shard=shards[index])
    assert output_status(out).finished
    assert output_status(out).array == ""


def test_several_processes_with_one_number(pictures, tmp_path):
    """A task number stands once in the list, however many of its processes have something missing."""
    out = tmp_path / "p.parquet"
    run(pictures, out, shard=ArrayTask(15, first=10, count=3, step=5, processes=2))
    status = output_status(out)

    assert [each.number for each in status.shards] == [10, 10, 15, 15, 20, 20]
    assert status.array == "10,15,20"


def test_all_done_but_not_in_its_place(pictures, tmp_path):
    """When only the end is missing, one task is named, and it is enough."""
    out = tmp_path / "p"
    for index in range(2):
        run(pictures, out, shard=Shard(index, 2))
    about = json.loads((out / ".motivnet" / "run.json").read_text())
    del about["finished"]  # as of a process that died just before it
    (out / ".motivnet" / "run.json").write_text(json.dumps(about))
    status = output_status(out)
    run(pictures, out, shard=Shard(int(status.array), 2))

    assert (status.finished, status.done, status.array) == (False, NUM_PICTURES, "0")
    assert output_status(out).finished


def test_an_amendment_that_has_not_ended(pictures, tmp_path):
    """The output is finished, and how far --retry-failed is stands beside it."""
    mine = tmp_path / "pictures"
    shutil.copytree(pictures, mine)
    out = tmp_path / "p.parquet"
    run(mine, out)
    for number in FAILED:
        shutil.copy(mine / "00.png", mine / f"{number:02}.png")
    run(mine, out, stop_after=2, retry_failed=True)
    status = output_status(out)

    assert status.finished
    assert status.amending == (1, 2)
    run(mine, out, retry_failed=True)
    assert output_status(out) == OutputStatus(
        True, NUM_PICTURES, NUM_PICTURES, 0, NUM_PICTURES, None, (), {"whole": NUM_PICTURES}
    )


def test_files_on_their_way_are_not_finished(pictures, tmp_path):
    """While both tables are renamed into their place, the output is not finished."""
    out = tmp_path / "p"
    run(pictures, out)
    (out / ".motivnet" / "moves.json").write_text("[]")

    assert not output_status(out).finished


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (lambda out: None, [], "no motivnet output at"),
        (lambda out: out.mkdir(), [], "no motivnet output at"),
        (lambda out: (out / ".motivnet").mkdir(parents=True), [], "its inputs are not listed yet"),
        (lambda out: out.with_suffix(".parquet"), ["--shards", "0"], "at least 1, got 0"),
    ],
)
def test_no_output_is_there(tmp_path, make, options, says):
    """A place without an output is said in a sentence, with exit code 2."""
    make(tmp_path / "p")
    result = motivnet("status", tmp_path / "p", *options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_tables_of_others(tmp_path):
    """Parquet files that motivnet did not write are not taken for an output."""
    for name in ("p.parquet", "p.inputs.parquet"):
        polars.DataFrame({"x": [1]}).write_parquet(tmp_path / name)

    with pytest.raises(ConfigError, match="was not written by motivnet"):
        output_status(tmp_path / "p.parquet")


def test_what_status_prints(pictures, tmp_path):
    """A few lines for people, everything as JSON, and the list alone for sbatch; nothing on stderr, always code 0."""
    out = tmp_path / "p.parquet"
    run(pictures, out, shard=ArrayTask(1, first=0, count=4))
    people, listed = motivnet("status", out), motivnet("status", out, "--array")
    about = json.loads(motivnet("status", out, "--json").stdout)
    run(pictures, out, shard=Shard(0, 1))

    assert people.stdout.splitlines()[1:] == [
        "inputs: 6 of 24 done, 18 missing; 2 failed",
        "faces: 4, 4 whole",
        "shards: 1 of 4 done",
        "  0 (task 0): 0 of 6 inputs",
        "  2 (task 2): 0 of 6 inputs",
        "  3 (task 3): 0 of 6 inputs",
        "to submit: --array=0,2-3",
    ]
    assert (people.exit_code, people.stderr, listed.stdout) == (0, "", "0,2-3\n")
    assert (about["missing"], about["array"], about["finished"]) == (18, "0,2-3", False)
    assert about["shards"][1] == {"index": 1, "number": 1, "done": 6, "inputs": 6}
    assert motivnet("status", out, "--array").stdout.strip() == ""
    assert motivnet("status", out).stdout.startswith(f"{out}: finished\n")


def test_a_list_needs_shares(pictures, tmp_path):
    """Of a run that is not shared, the list needs --shards N."""
    out = tmp_path / "p.parquet"
    run(pictures, out, stop_after=5)
    result = motivnet("status", out, "--array")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--shards N" in result.stderr
    assert motivnet("status", out, "--array", "--shards", "2").stdout == "0\n"


def test_overwriting_is_no_work_of_shards(pictures, tmp_path):
    """A shard that begins does not throw away what the others have done."""
    with pytest.raises(ConfigError, match="--overwrite is the work of one call"):
        run(pictures, tmp_path / "p.parquet", shard=Shard(0, 2), overwrite=True)


# ---- the script ---------------------------------------------------------------------------------------------


def script(*arguments):
    result = motivnet("slurm-script", *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--shards", "8", "--", "./photos", "--out", "p.parquet"],
        [
            "--shards", "3", "--gres", "gpu:a100:1", "--mem", "16G", "--time", "4:00:00", "--partition", "gpu",
            "--account", "me", "--job-name", "it's \"two\" #words", "--log", "a b-%a.log",
            "--", "it's $HOME `x` \"q\".png", "-o", "two words/$(rm x)", "--include", "*.jpg",
        ],
    ],
    ids=["short", "awkward"],
)  # fmt: skip
def test_shells_take_the_script(tmp_path, arguments):
    """bash and shellcheck find no fault with it, and motivnet gets its arguments as they were, whatever is in them."""
    file = tmp_path / "run.sh"
    file.write_text(script(*arguments))
    (tmp_path / "motivnet").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (tmp_path / "motivnet").chmod(0o755)
    subprocess.run(["bash", "-n", file], check=True)
    if shutil.which("shellcheck"):  # SC2016: a dollar in single quotes, which is what was asked for
        subprocess.run(["shellcheck", "--exclude=SC2016", file], check=True)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "1"}
    ran = subprocess.run(["bash", file], env=environ, check=True, capture_output=True, text=True)

    assert ran.stdout.split("\0")[:-1] == ["annotate", "--shard", "auto", *arguments[arguments.index("--") + 1 :]]


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
def test_motivnet_gets_one_signal(tmp_path, state):
    """The early one from the script; of a job that is cancelled from Slurm, as every process. A second would end it.

    Programs that say the job's state and count signals stand here for both: no test can choose when Slurm tells whom.
    """
    on_path = {
        "squeue": f"echo {state}",
        "scontrol": "echo $1",
        "motivnet": "trap 'told=1; echo told' TERM; echo $$; until [ $told ]; do sleep 0.05; done; sleep 1; exit 75",
    }
    for name, program in on_path.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{program}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "run.sh").write_text(script("--shards", 2, "--", "./photos", "--out", "p"))
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "1"}
    with subprocess.Popen(["bash", tmp_path / "run.sh"], env=environ, stdout=subprocess.PIPE, text=True) as job:
        pid = int(job.stdout.readline())
        if state == "COMPLETING":
            os.kill(pid, signal.SIGTERM)
            assert job.stdout.readline() == "told\n"
        job.send_signal(signal.SIGTERM)
        said = job.stdout.read()

    assert said == {"RUNNING": "told\nrequeue\n", "COMPLETING": ""}[state]
    assert job.returncode == 75


def test_what_slurm_is_asked_for():
    """Options become lines of #SBATCH; those that are not given are left to the site."""
    text = script("--shards", 8, "--gpus", 2, "--mem", "16G", "--", "./photos", "--out", "p.parquet")
    asked = [line.split(" ", 1)[1] for line in text.splitlines() if line.startswith("#SBATCH ")]

    assert asked == [
        "--job-name=motivnet",
        "--array=0-7",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--gpus-per-task=2",
        "--mem=16G",
        "--output=motivnet-%A_%a.log",
        "--open-mode=append",
        "--requeue",
        "--signal=B:TERM@120",
    ]
    assert "\nmotivnet annotate --shard auto ./photos --out p.parquet &\n" in text
    assert '--array="$(motivnet status p.parquet --array)"' in text


def test_script_with_a_container():
    """motivnet runs in the image, with the GPU if there is one."""
    arguments = ["--shards", 2, "--container", "m.sif", "--", "./photos", "--out", "p"]

    assert "\napptainer exec --nv m.sif motivnet annotate --shard auto ./photos --out p &\n" in script(*arguments)
    assert "\napptainer exec m.sif motivnet annotate" in script("--gpus", 0, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["./photos"], "--out is missing"),
        (["./photos", "--out", "p", "--bogus"], "there is no option --bogus"),
        (["./photos", "--out", "-"], "name a file or a folder with --out"),
        (["./photos", "--out", "p", "--shard", "1/2"], "leave out --shard"),
        (["-", "--out", "p"], "a job has no stdin"),
        (["--files0-from", "-", "--out", "p"], "a job has no stdin"),
        (["./photos", "--out", "p", "--retry-failed"], "--retry-failed is the work of one call"),
        (["./photos", "--out", "p\n#"], "cannot hold line breaks"),
    ],
)
def test_arguments_that_are_no_work_of_an_array(arguments, says):
    """What cannot be shared is said before anything is submitted, with exit code 2."""
    result = motivnet("slurm-script", "--shards", 2, "--", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
