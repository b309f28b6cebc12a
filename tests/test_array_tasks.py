"""Which share a task does, by the variables that schedulers set, and what a run remembers of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motivnet_cli.errors import ConfigError
from motivnet_cli.shards import Shard, parse_shard, task_list


def slurm(number, numbers, *, tasks=None, process=None):
    """The variables that Slurm 22.05 gives to `sbatch --array=NUMBERS --ntasks=TASKS`; `process` is one of srun's."""
    variables = {
        "SLURM_ARRAY_JOB_ID": "17",
        "SLURM_ARRAY_TASK_COUNT": str(len(numbers)),
        "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_MAX": str(max(numbers)),
        "SLURM_ARRAY_TASK_MIN": str(min(numbers)),
        "SLURM_ARRAY_TASK_STEP": "1",
        "SLURM_JOB_ID": "24",
        "SLURM_PROCID": "0",
    }
    if tasks is not None:
        variables |= {"SLURM_NTASKS": str(tasks), "SLURM_NPROCS": str(tasks)}
    if process is not None:
        variables |= {"SLURM_PROCID": str(process), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(tasks)}
    return variables


def sge(number, first, last, step=1):
    return {
        "SGE_TASK_ID": str(number),
        "SGE_TASK_FIRST": str(first),
        "SGE_TASK_LAST": str(last),
        "SGE_TASK_STEPSIZE": str(step),
    }


def lsf(number, last, step=1):
    return {"LSB_JOBINDEX": str(number), "LSB_JOBINDEX_END": str(last), "LSB_JOBINDEX_STEP": str(step)}


def srun(process, tasks):
    return {
        "SLURM_JOB_ID": "4",
        "SLURM_PROCID": str(process),
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_ID": "0",
    }


def share(text, environ, shards=None):
    """The index and count that a task comes to in a run that remembers `shards`."""
    shard = parse_shard(text, environ).of_run(shards)
    return shard.index, shard.count


def remembered(count, first=0, step=1, each=1):
    return {"count": count, "first": first, "step": step, "each": each}


@pytest.mark.parametrize(
    ("environ", "expected", "first"),
    [
        (slurm(0, range(8)), (0, 8), 0),
        (slurm(7, range(8)), (7, 8), 0),
        (slurm(3, range(1, 5)), (2, 4), 1),
        (slurm(2, range(4), tasks=2), (2, 4), 0),
        (slurm(2, range(4), tasks=3, process=1), (7, 12), 0),
        (slurm(2, range(4), tasks=1, process=0), (2, 4), 0),
        (srun(3, 4), (3, 4), 0),
        ({"SLURM_JOB_ID": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (0, 1), 0),
        ({"SLURM_JOB_ID": "6", "SLURM_PROCID": "0"}, (0, 1), 0),
        (sge(1, 1, 8), (0, 8), 1),
        (sge(8, 1, 8), (7, 8), 1),
        (sge(7, 3, 11, 2), (2, 5), 3),
        (lsf(1, 8), (0, 8), 1),
        (lsf(5, 9, 2), (2, 5), 1),
    ],
    ids=str,
)
def test_auto_on_a_new_run(environ, expected, first):
    """Each scheduler's variables give the share, and the number of share 0; a batch script is no process of srun."""
    shard = parse_shard("auto", environ).of_run(None)

    assert (shard.index, shard.count, shard.first) == (*expected, first)


def test_shares_as_given():
    """I/N is itself, whatever a scheduler or the run says."""
    shard = parse_shard("3/8", slurm(1, range(4)))

    assert (shard, shard.of_run(remembered(5, first=1))) == (Shard(3, 8), Shard(3, 8))


def test_processes_of_every_element_are_shares():
    """Of an array whose elements start several processes, each process of each element does another share."""
    shares = [share("auto", slurm(n, range(3, 6), tasks=2, process=p)) for n in range(3, 6) for p in range(2)]

    assert shares == [(index, 6) for index in range(6)]
    assert parse_shard("auto", slurm(4, range(3, 6), tasks=2, process=1)).number == 4


@pytest.mark.parametrize(
    ("text", "environ", "shards", "expected"),
    [
        ("auto", slurm(4, [3, 4, 5]), remembered(8), (4, 8)),  # --array=3-5 looks like a whole array of three
        ("auto", slurm(7, [3, 7]), remembered(8), (7, 8)),
        ("auto", slurm(4, [3, 4, 5]), remembered(8, first=1), (3, 8)),
        ("auto", slurm(3, [3]), remembered(8, each=2) , None),
        ("auto", slurm(3, [3], tasks=2, process=1), remembered(8, each=2), (7, 8)),
        ("auto", sge(5, 5, 5), remembered(8, first=1), (4, 8)),
        ("auto", sge(5, 5, 5), remembered(8, first=1, step=2), (2, 8)),
        ("auto", sge(6, 6, 6), remembered(8, first=1, step=2), None),
        ("auto", lsf(5, 6), remembered(8, first=1), (4, 8)),
        ("auto", {"PBS_ARRAY_INDEX": "5"}, remembered(8), (5, 8)),
        ("auto", {"PBS_ARRAYID": "5"}, remembered(8, first=1), (4, 8)),
        ("auto", slurm(8, [8]), remembered(8), None),
        ("auto", slurm(0, [0]), remembered(8, first=1), None),
        ("auto", slurm(1, range(1, 9)), remembered(8), (0, 8)),  # all of them again, under other numbers
        ("auto", srun(2, 4), remembered(8), (2, 4)),  # no array: the processes are always all there
        ("auto/5", slurm(4, range(5)), remembered(8), (4, 5)),
        ("auto/8", slurm(7, [3, 7]), remembered(8), (7, 8)),
        ("auto/8", slurm(7, [3, 7]), remembered(8, first=1), (6, 8)),
        ("auto/5", {"PBS_ARRAY_INDEX": "4"}, remembered(8), (4, 5)),
    ],
    ids=str,
)  # fmt: skip
def test_part_of_a_run_is_submitted_again(text, environ, shards, expected):
    """Of a run that remembers its count that count and its numbers hold, unless the user gives another count."""
    if expected is None:
        with pytest.raises(ConfigError, match="this run was begun with"):
            share(text, environ, shards)
    else:
        assert share(text, environ, shards) == expected


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("auto/8", slurm(7, [3, 7]), (7, 8)),
        ("auto/8", slurm(3, range(1, 9)), (2, 8)),
        ("auto/8", {"PBS_ARRAY_INDEX": "5"}, (5, 8)),
        ("auto/8", sge(3, 3, 3), (2, 8)),
        ("auto/8", lsf(3, 4), (2, 8)),
        ("auto/8", slurm(1, range(4), tasks=2, process=1), (3, 8)),
        ("auto/3", srun(2, 4), (2, 3)),
    ],
    ids=str,
)
def test_counted_by_the_user_on_a_new_run(text, environ, expected):
    """With auto/N only the number is the scheduler's, counted from what it begins with by custom."""
    assert share(text, environ) == expected


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("auto", slurm(7, [3, 7]), "auto/N"),
        ("auto", {"PBS_ARRAY_INDEX": "5"}, "auto/N"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "5"}, "auto/N"),
        ("auto", {}, "--shard I/N"),
        ("auto", {"SGE_TASK_ID": "undefined", "SGE_TASK_FIRST": "undefined"}, "--shard I/N"),
        ("auto", {"LSB_JOBINDEX": "0", "LSB_JOBINDEX_END": "0"}, "--shard I/N"),
        ("auto/4", {"PBS_ARRAY_INDEX": "4"}, "outside 0-3"),
        ("auto/4", sge(5, 5, 5), "outside 1-4"),
        ("auto/3", srun(3, 4), "start 3 with srun"),
        ("auto", slurm(0, range(4)) | {"SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID .* 'x'"),
        ("auto", slurm(0, range(4)) | {"SLURM_ARRAY_TASK_ID": "9"}, "SLURM_ARRAY_TASK_ID is 9"),
        ("auto", slurm(0, range(4)) | {"SLURM_ARRAY_TASK_COUNT": "-1"}, "SLURM_ARRAY_TASK_COUNT .* '-1'"),
        ("auto", srun(4, 4), "SLURM_PROCID is 4"),
        ("auto", srun(0, 0), "SLURM_NTASKS .* '0'"),
        ("auto", sge(1, 1, 4, 0), "SGE_TASK_STEPSIZE .* '0'"),
        ("auto", {"PBS_ARRAY_INDEX": ""}, "PBS_ARRAY_INDEX .* ''"),
        ("auto", {"LSB_JOBINDEX": "5", "LSB_JOBINDEX_END": "4"}, "LSB_JOBINDEX is 5"),
        ("8/8", {}, "the last of 8 is 7"),
        ("0/0", {}, "1 or more"),
        ("auto/0", {}, "1 or more"),
        *((text, {}, f"got '{text}'") for text in ("", "3", "a/b", "-1/4", "1/4/2", "auto/", "1/", "1 /4", "AUTO")),
    ],
    ids=str,
)
def test_what_makes_no_sense(text, environ, says):
    """A wrong text or variable is named, with what was expected or what to do."""
    with pytest.raises(ConfigError, match=says):
        share(text, environ)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([], ""), ([5], "5"), ([0, 1, 2, 3, 5, 7, 8, 9], "0-3,5,7-9"), ([4, 2, 2, 3], "2-4"), ([1, 2], "1-2")],
)
def test_task_list(numbers, expected):
    """Numbers are written as runs, in order, each once."""
    assert task_list(numbers) == expected


@given(st.integers(1, 50), st.integers(0, 5), st.integers(1, 4), st.data())
def test_every_share_is_found_again(count, first, each, data):
    """Whatever part of a Slurm array is submitted again, its processes do the shares that they did before."""
    numbers = range(first, first + count)
    every = [(n, p) for n in numbers for p in range(each)]
    before = [parse_shard("auto", slurm(n, numbers, tasks=each, process=p)).of_run(None) for n, p in every]
    again = sorted(data.draw(st.sets(st.sampled_from(numbers), min_size=1)))
    after = [
        parse_shard("auto", slurm(n, again, tasks=each, process=p)).of_run(before[0].numbering)
        for n in again
        for p in range(each)
    ]

    assert [shard.index for shard in before] == list(range(count * each))
    assert [(s.index, s.count) for s in after] == [(s.index, s.count) for s in before if s.number in again]
