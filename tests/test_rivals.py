"""Several processes at work on one unit of an output in an object store: each part is of one of them, and none is lost.

Whoever takes part finds another number of faces, so that `verify` sees a part whose tables are of two processes.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import time
from collections import Counter

import fsspec
import pytest

from motivnet_cli.config import OutputConfig
from motivnet_cli.errors import OutputConflictError
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output import backend, ledger, plan
from motivnet_cli.output.backend import ObjectStoreMirror
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.paths import output_paths
from motivnet_cli.output.share import begun_run, take_part
from motivnet_cli.output.status import output_status
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.output.verify import verify_output
from motivnet_cli.records import EMOTIONS, Batch, Cursor, Position, never
from motivnet_cli.remote import storage
from tests.agreement import assert_same_rows
from tests.clips import pan_over_portrait
from tests.outputs import (
    RECORD,
    Killed,
    assert_whole,
    crops_of,
    faces_in,
    nine_inputs,
    predict,
    report_of,
    run,
    tables,
)
from tests.pictures import face_photo
from tests.runs import command, finish
from tests.s3_server import FailingServer
from tests.test_s3 import at_call, dying_at, forget_memory, keys_under, shard_of

VIDEO = ("--track", "--fps", "10")
MADE_UP = ("record", "schema", "leftovers")
"""Checks that these outputs do not pass: they have no real record, and memory:// keeps folders that are empty."""
NAMES = [f"{number}.jpg" for number in range(9)]


@pytest.fixture
def nine(tmp_path):
    return nine_inputs(tmp_path / "nine")


@pytest.fixture
def root():
    yield "memory://store"
    forget_memory()


def assert_each_once(url):
    """Every input is there once, in order, and `verify` finds each with the faces that its row counts."""
    faces, inputs = tables(url)
    assert inputs["input"].to_list() == NAMES
    assert inputs["faces"].sum() == len(faces) > 0
    wrong = {check.check: check.examples for check in verify_output(url).checks if check.result == "wrong"}
    assert {check: examples for check, examples in wrong.items() if check not in MADE_UP} == {}


@pytest.mark.parametrize(("name", "step"), [("preds", 9), pytest.param("preds.parquet", 7, marks=pytest.mark.thorough)])
def test_another_process_does_some_of_a_unit_meanwhile(root, nine, monkeypatch, name, step):
    """Before any call to the store, with cuts of its own, and it dies at any call: what comes out is whole."""
    rng = random.Random(5)
    mixed = 0
    for number in range(0, 1000, step):
        url = f"{root}/{number}/{name}"

        def other(url=url):
            with dying_at(rng.randrange(8, 60), monkeypatch):
                run(url, nine, batch_size=rng.choice([1, 3, 7]), more_faces=1, commit_seconds=0)

        with at_call(number, other, monkeypatch) as happened:
            run(url, nine, commit_seconds=0)

        assert_each_once(url)
        by_whom = {len(tables(url)[0].filter(input=name)) - faces_in_name(name) for name in ("0.jpg", "5.jpg", "8.jpg")}
        mixed += len(by_whom) == 2
        if not happened:
            break
    assert number > 30
    assert mixed > 1  # else no output had parts of both, and nothing was shown


def faces_in_name(name):
    return int(name[0]) % 3


@pytest.mark.parametrize("step", [9, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_dead_process_s_parts_are_ended_by_the_next(root, nine, monkeypatch, step):
    """Killed between any two calls: what its faces say is decided, and is not done again."""
    for kill_at in range(0, 1000, step):
        url = f"{root}/{kill_at}/preds"
        with dying_at(kill_at, monkeypatch) as death:
            run(url, nine, commit_seconds=0)
        keys = keys_under(f"{root}/{kill_at}")
        faces = [key for key in keys if "/faces/" in key]
        run(url, nine, batch_size=5, more_faces=2, commit_seconds=0)

        assert_each_once(url)
        assert len(tables(url)[0].filter(input="0.jpg")) == (0 if faces else 2)
        assert not any("/pending/" in key for key in keys_under(f"{root}/{kill_at}"))
        if not death:
            break


# ---- one unit, step by step ---------------------------------------------------------------------------------


@pytest.fixture
def url(root, nine):
    """An output whose run is begun."""
    run(f"{root}/preds", nine, stop_after=0)
    return f"{root}/preds"


def share_of(url):
    """One of a process of its own, that commits with each batch."""
    return take_part(OutputConfig(path=url, commit_seconds=0), RowLayout(EMOTIONS, 4))


def batch_of(todos, more_faces=0):
    """The faces of some inputs, and what answers the network has for them."""
    counts = [(todo, faces_in(todo.item)) for todo in todos]
    counts = [(todo, None if count is None else count + more_faces) for todo, count in counts]
    crops = [crop for todo, count in counts for crop in crops_of(todo.item, todo.cursor.position, count)]
    reports = tuple(report_of(todo.item, count) for todo, count in counts)
    return Batch(tuple(crops), reports, Cursor(Position(counts[-1][0].item.index + 1))), predict(
        crops
    ) if crops else None


def test_what_was_reached_before_a_unit_was_lost_is_not_taken_for_done(url):
    """A process that is stopped as it takes the unit again has done nothing of it."""
    one, other = share_of(url), share_of(url)
    rounds = one.rounds(never)
    ours, theirs = list(next(rounds)), list(next(other.rounds(never)))
    other.write(*batch_of(theirs[:3], more_faces=1))
    one.write(*batch_of(ours[:5]))
    again = next(rounds)
    first = next(again)
    one.close()

    assert first.item.index == 3
    assert output_status(url).done == 3
    assert other.is_done is False


def test_a_large_plan_is_read_by_ranges(url, nine, monkeypatch):
    """No copy of it comes here, whatever is asked of it; a byte that has turned over is noticed."""
    monkeypatch.setattr(backend, "_SMALL_TABLE_BYTES", 0)
    monkeypatch.setattr(plan, "ROW_GROUP", 2)
    run(url, nine, overwrite=True, stop_after=0)
    paths = output_paths(url)
    found = Ledger.find(paths.run, paths.backend)

    assert [item.input for item in found.items()] == NAMES
    assert [path.name for path in paths.work.iterdir()] == ["run.json"]
    run(url, nine)
    assert_each_once(url)
    store = fsspec.filesystem("memory")
    (key,) = store.glob("/store/preds/.motivnet/plan-*")
    content = bytearray(store.cat_file(key))
    content[60] ^= 1
    store.pipe_file(key, bytes(content))
    with pytest.raises(OutputConflictError, match=r"the plan .* is damaged"):
        list(found.items())


def test_a_part_whose_process_died_before_its_marker_is_not_done_again(url, monkeypatch):
    """Who takes the unit makes the marker, and goes on after it."""
    share = share_of(url)
    todos = list(next(share.rounds(never)))
    create = ObjectStoreMirror.create

    def create_faces_only(mirror, path, source=None):
        if path.parent.name == "inputs":
            raise Killed
        return create(mirror, path, source)

    monkeypatch.setattr(ObjectStoreMirror, "create", create_faces_only)
    with pytest.raises(Killed):
        share.write(*batch_of(todos[:4]))
    monkeypatch.undo()
    again = begun_run(OutputConfig(path=url))

    assert again.num_done == 0
    assert again.claim(0)
    assert next(again.todos(0)).item.index == 4
    assert output_status(url).done == 4


def test_the_last_marker_has_one_name_whoever_makes_it(url, monkeypatch):
    """Another process makes it, while its own is about to."""
    share, store = share_of(url), fsspec.filesystem("memory")
    todos = list(next(share.rounds(never)))
    create = ObjectStoreMirror.create

    def overtaken(mirror, path, source=None):
        if path.parent.name == "inputs":
            monkeypatch.setattr(ObjectStoreMirror, "create", create)
            assert not begun_run(OutputConfig(path=url)).claim(0)
            assert len(store.glob("/store/preds/inputs/*")) == 1
        return create(mirror, path, source)

    monkeypatch.setattr(ObjectStoreMirror, "create", overtaken)
    share.write(*batch_of(todos))
    monkeypatch.undo()

    assert [key.rpartition("/")[2] for key in store.glob("/store/preds/inputs/*")] == ["part-000000-0000-end.parquet"]
    assert share.is_done


def test_inputs_of_a_process_that_died_before_it_wrote_faces_are_gone_at_the_end(url, nine, monkeypatch):
    share = share_of(url)
    todos = list(next(share.rounds(never)))

    def create(*_):
        raise Killed

    monkeypatch.setattr(ObjectStoreMirror, "create", create)
    with pytest.raises(Killed):
        share.write(*batch_of(todos[:4]))
    monkeypatch.undo()
    left = [key for key in keys_under("memory://store") if "/pending/" in key]
    run(url, nine)

    assert left
    assert not any("/pending/" in key for key in keys_under("memory://store"))
    assert_each_once(url)


def test_a_unit_that_was_lost_is_not_read_any_further(url):
    """Nor is anything committed of it, however much comes: the other's parts go on."""
    one, other = share_of(url), share_of(url)
    todos = next(one.rounds(never))
    ours, theirs = list(itertools.islice(todos, 5)), list(next(other.rounds(never)))
    other.write(*batch_of(theirs[:3], more_faces=1))
    one.write(*batch_of(ours[:4]))
    one.write(*batch_of(ours[4:]))

    assert list(todos) == []
    assert output_status(url).done == 3
    other.write(*batch_of(theirs[3:], more_faces=1))
    assert output_status(url).done == 9


def test_an_answer_of_the_store_that_is_lost(url, monkeypatch):
    """The object that is there is this process's own: the unit is not given up."""
    share, put_file = share_of(url), fsspec.filesystem("memory").put_file
    todos = list(next(share.rounds(never)))
    lost = []

    def put_and_lose(source, key, *, mode, **options):
        put_file(source, key, mode=mode, **options)
        if mode == "create" and not lost:
            lost.append(key)
            raise OSError("connection reset")

    monkeypatch.setattr(storage, "seconds_before_retry", lambda *_: 0)
    monkeypatch.setattr(fsspec.filesystem("memory"), "put_file", put_and_lose)
    share.write(*batch_of(todos[:5]))
    assert "/faces/" in lost[0]
    share.write(*batch_of(todos[5:]))
    assert share.is_done


def test_a_video_goes_on_from_its_last_part(url):
    """To the step within it, with what was counted until then; on another machine."""
    one = begun_run(OutputConfig(path=url))
    reached = Cursor(Position(4, 7), num_frames=7, num_faces=3)
    schemas = RowLayout(EMOTIONS, 4).schemas(RECORD)
    assert one.claim(0)
    one.commit(0, schemas["faces"].empty_table(), schemas["inputs"].empty_table(), reached=reached)
    again = begun_run(OutputConfig(path=url))

    assert again.claim(0)
    assert next(again.todos(0)).cursor == reached


def test_faces_of_another_run_are_not_ended(url, nine):
    """A process that wrote them after everything had been removed: nobody knows what goes with them."""
    store = fsspec.filesystem("memory")
    run(url, nine, stop_after=3, commit_seconds=0)
    (faces, *_) = store.glob("/store/preds/faces/*")
    left = store.cat_file(faces)
    (nine / "9.jpg").write_bytes(b"")
    run(url, nine, overwrite=True, stop_after=0)
    store.pipe_file(faces, left)
    with pytest.raises(OutputConflictError, match="is of another run than the one that is there now: start anew"):
        run(url, nine)
    run(url, nine, overwrite=True)
    assert tables(url)[1]["input"].to_list() == [*NAMES, "9.jpg"]


def test_faces_whose_inputs_are_gone(url, nine):
    """What --overwrite had removed when it was killed is not made up."""
    store = fsspec.filesystem("memory")
    run(url, nine, stop_after=3, commit_seconds=0)
    store.rm(store.glob("/store/preds/inputs/*"))
    with pytest.raises(OutputConflictError, match=r"a part of the run at .* is gone: start anew with --overwrite"):
        run(url, nine)


@pytest.mark.parametrize("stop_after", [0, 5, None])
def test_an_output_of_the_former_version_goes_on(root, nine, monkeypatch, stop_after):
    """Its units are whole, as in stores that cannot say who was first, and no part says that it is the last."""
    url, store = f"{root}/p", fsspec.filesystem("memory")
    put_file = store.put_file
    with monkeypatch.context() as patch:  # as some do that speak S3
        patch.setattr(store, "put_file", lambda source, key, *, mode: put_file(source, key, mode="overwrite"))
        run(url, nine, stop_after=stop_after, commit_seconds=0)
    assert not any("-end" in key for key in store.find("/store/p"))
    assert "segments" not in json.loads(store.cat_file("/store/p/.motivnet/run.json"))
    run(url, nine, commit_seconds=0)

    assert_each_once(url)
    assert len(store.glob("/store/p/inputs/*")) == 5


# ---- how much a store is asked ------------------------------------------------------------------------------


@pytest.fixture
def counted(s3, monkeypatch):
    """The requests that S3 gets, and an empty bucket."""
    with FailingServer(s3, every=None) as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
        fsspec.filesystem("s3").clear_instance_cache()
        yield front.requests, s3.new_bucket()
    fsspec.filesystem("s3").clear_instance_cache()


def kinds_of(requests):
    """How many of each kind; what has been counted is forgotten."""
    kinds = Counter("LIST" if "list-type" in path else method for method, path in requests)
    requests.clear()
    return dict(kinds)


def test_requests_of_a_process(counted, nine, monkeypatch):
    """As docs/cluster.md has them: none grows with the number of units or inputs but pages of the list of parts."""
    monkeypatch.setattr(ledger, "MAX_UNIT_ITEMS", 3)
    monkeypatch.setattr(backend, "_SMALL_TABLE_BYTES", 0)
    requests, bucket = counted
    url = f"s3://{bucket}/preds"
    run(url, nine, stop_after=0)
    requests.clear()
    with shard_of(url, 0) as output:
        output.begin(Listing([str(nine)]))
        assert kinds_of(requests) == {"LIST": 3, "HEAD": 2, "GET": 2, "PUT": 1}
    share = share_of(url)
    started = kinds_of(requests)
    units = []
    todos = next(share.rounds(never))
    for _ in range(3):
        ours = list(itertools.islice(todos, 3))
        share.write(*batch_of(ours[:1]))
        share.write(*batch_of(ours[1:]))
        units.append(kinds_of(requests))
    a_unit = {"LIST": 2, "GET": 1, "PUT": 3, "DELETE": 1}
    a_part = {"PUT": 3, "DELETE": 1}
    footer_of_plan = {"HEAD": 1, "GET": 1}

    assert started == {"GET": 2, "LIST": 1}
    assert units == [
        Counter(a_unit) + Counter(a_part) + Counter(footer_of_plan),
        *[Counter(a_unit) + Counter(a_part)] * 2,
    ]
    assert output_status(url).done == 9
    parts = [path for method, path in requests if method == "GET" and "/preds/inputs/part-" in path]
    assert len(parts) == len(set(parts)) == 6
    assert len(requests) - len(parts) == 29


# ---- real processes -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(6):
        face_photo(folder / f"{number:02d}.jpg", size=(320, 240), faces=((160, 120, 60 + 3 * number),))
    pan_over_portrait(folder / "clip.mp4", seconds=2)
    return folder


@pytest.mark.slow
def test_two_whole_runs_at_once_one_of_them_killed(s3, inputs, tmp_path):
    """They do the same units, with cuts of their own; the video goes on from the parts that are there."""
    bucket = s3.new_bucket()
    finish(inputs, tmp_path / "undisturbed", *VIDEO)
    runs = [
        subprocess.Popen(command(inputs, f"s3://{bucket}/p", *VIDEO, "--batch-size", size), stderr=subprocess.PIPE)
        for size in ("1", "3")
    ]
    while not has_begun_the_video(s3, bucket) and all(each.poll() is None for each in runs):
        time.sleep(0.01)
    runs[0].kill()
    codes = [each.wait() for each in runs if each.communicate(timeout=300)]

    assert codes == [-signal.SIGKILL, 0]
    assert_same_rows(f"s3://{bucket}/p", tmp_path / "undisturbed")
    assert_whole(f"s3://{bucket}/p")


@pytest.mark.slow
def test_a_long_video_is_not_done_again_from_its_start(s3, inputs, tmp_path):
    """Killed within it; what was committed stays as it is, and the rest comes after it."""
    bucket = s3.new_bucket()
    process = subprocess.Popen(
        command(inputs / "clip.mp4", f"s3://{bucket}/p", "--batch-size", "1", *VIDEO), stderr=subprocess.PIPE
    )
    while len(parts_at(s3, bucket)) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    committed = parts_at(s3, bucket)
    finish(inputs / "clip.mp4", f"s3://{bucket}/p", *VIDEO)
    finish(inputs / "clip.mp4", tmp_path / "undisturbed", *VIDEO)

    assert len(committed) >= 2
    assert committed.items() < parts_at(s3, bucket).items()
    assert_same_rows(f"s3://{bucket}/p", tmp_path / "undisturbed")
    assert_whole(f"s3://{bucket}/p")


def parts_at(s3, bucket):
    return {key: s3.content(bucket, key) for key in s3.keys(bucket) if "/inputs/part-" in key}


def has_begun_the_video(s3, bucket):
    """Whether a part of the unit ends within its last input, which is the clip."""
    return any(b"[[6, " in content and b"[[6, 0]" not in content for content in parts_at(s3, bucket).values())
