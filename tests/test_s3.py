"""Object stores: a real S3 server on this machine, asked by real processes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
import traceback

import fsspec
import pytest

from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.errors import ConfigError, FetchError, OutputConflictError
from motivnet_cli.export.merge import merge
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output import backend, ledger
from motivnet_cli.output.backend import ObjectStoreMirror
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.names import RunFiles, is_last, unit_of
from motivnet_cli.output.read import read_faces, read_inputs, read_record
from motivnet_cli.output.sink import Output
from motivnet_cli.output.status import output_status
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import EMOTIONS, Batch, Cursor, Position, never
from motivnet_cli.remote import storage
from motivnet_cli.remote.files import read_bytes
from motivnet_cli.remote.storage import list_remote
from motivnet_cli.shards import Shard
from tests.agreement import assert_same_rows
from tests.outputs import RECORD, Killed, crops_of, faces_in, nine_inputs, predict, report_of, tables
from tests.outputs import run as write
from tests.pictures import face_photo
from tests.runs import HeldRun, command
from tests.s3_server import PAGE_KEYS, FailingServer

HUSH = "hushhush"
"""A secret that is wrong, and must not be said either."""
NAMES = (
    "z.JPG",
    "a/x.jpg",
    "a-b.jpg",
    "a.png",
    "a/deep/er/v.mp4",
    "a/.hidden/no.jpg",
    "b/c.tar",
    "b/sound.mp3",
    "b/.no.jpg",
    "notes.txt",
    "noending",
    "odd/two words.jpg",
    "odd/#1.jpg",
    "odd/%41.jpg",
    "odd/[x].jpg",
    "odd/100?.jpg",
    "odd/a::b.jpg",
    "odd/smile \N{GRINNING FACE}.jpg",
    "odd/+&=.jpg",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder with names of every kind."""
    folder = tmp_path_factory.mktemp("tree") / "photos"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * number)
    return folder


@pytest.fixture
def bucket(s3, tree):
    """A bucket with the same files under `photos/`."""
    name = s3.new_bucket()
    s3.upload(tree, name, "photos/")
    return name


def items_of(path, **options):
    """What is listed, without the paths, and what was passed over."""
    listing = Listing(InputConfig(paths=(path,), **options))
    items = [(item.input, item.kind, item.size_bytes, item.mtime_ns, item.problem) for item in listing]
    return items, dict(listing.skipped)


def forget_memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def secrets_in(server, *texts):
    return [text for text in texts if server.secret in text or HUSH in text]


# ---- inputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"recursive": False}, {"include": ("*.jpg",)}, {"exclude": ("odd", "a/deep/*", "z*")}],
    ids=["all", "flat", "include", "exclude"],
)
def test_bucket_is_listed_as_a_folder(tree, bucket, options):
    """The same names in the same order, kinds, sizes and times, and the same files passed over."""
    expected = items_of(str(tree), **options)

    assert expected[0]
    assert items_of(f"s3://{bucket}/photos/", **options) == expected
    assert items_of(f"s3://{bucket}/photos", **options) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.jpg",
        "**",
        "**/*.jpg",
        "**/deep",
        "?/*",
        "*/[a-d]*",
        "a/*.jpg",
        "b/*.mp3",
        "b/.*",
        "a/**/v.mp4",
        "odd/**",
    ],
)
def test_patterns_find_what_they_find_in_a_folder(tree, bucket, pattern, monkeypatch):
    """Hidden names, folders and endings that are spelt out included."""
    monkeypatch.chdir(tree.parent)
    items, skipped = items_of(f"photos/{pattern}")

    assert items
    begin = f"s3://{bucket}/"
    assert items_of(begin + f"photos/{pattern}") == ([(begin + name, *rest) for name, *rest in items], skipped)


def test_whole_bucket_and_other_inputs(tree, bucket):
    """Of several inputs, names begin as they were given, and an object that is reached twice is one input."""
    names = [item.input for item in Listing([f"s3://{bucket}", str(tree / "z.JPG"), f"s3://{bucket}/photos/z.JPG"])]

    assert names[0] == f"s3://{bucket}/photos/a/deep/er/v.mp4"
    assert names[-1] == str(tree / "z.JPG")
    assert names.count(f"s3://{bucket}/photos/z.JPG") == 1


def test_what_is_listed_can_be_read(tree, bucket):
    """Whatever its key: what looks like a pattern, a query, a fragment or a chain is none."""
    items = list(Listing([f"s3://{bucket}/photos/"]))

    assert items
    assert all(read_bytes(each.path, max_bytes=100) == (tree / each.input).read_bytes() for each in items)


def test_listing_comes_in_pages(s3, bucket):
    """All of them are read."""
    assert len(s3.client.list_objects_v2(Bucket=bucket)["Contents"]) == PAGE_KEYS
    assert len(list(list_remote(f"s3://{bucket}/"))) == len(NAMES) > 2 * PAGE_KEYS


def test_any_store_of_fsspec_is_listed(tree):
    """Not S3 alone."""
    files = fsspec.filesystem("memory")
    for name in NAMES:
        files.pipe(f"/store/photos/{name}", (tree / name).read_bytes())
    listing = Listing(["memory://store/photos/"])

    assert [item.input for item in listing] == [item.input for item in Listing([str(tree)])]
    assert [item.input for item in Listing(["memory://store/*/*.jpg"])] == ["memory://store/photos/a-b.jpg"]
    forget_memory()


def test_single_objects_are_not_asked_for(monkeypatch):
    """What has a known ending, stands in a list or is on a web server is taken as it is: no server is there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    listing = Listing(["s3://none/a/x.jpg", "s3://none/part.tar", "https://none/folder/", "https://none/*.jpg?a=[1]"])

    assert [(item.kind, item.size_bytes) for item in listing] == [
        ("image", None), ("archive", None), ("image", None), ("image", None),
    ]  # fmt: skip


def test_lists_may_name_folders_with_a_slash(s3, bucket, tmp_path):
    """Other lines are files."""
    lines = tmp_path / "list.txt"
    lines.write_text(f"s3://{bucket}/photos/a/\ns3://{bucket}/photos/noending\ns3://{bucket}/none/\n")
    items = list(Listing(InputConfig(files_from=(str(lines),))))

    assert [item.input.rpartition("photos/")[2] for item in items[:3]] == ["a/deep/er/v.mp4", "a/x.jpg", "noending"]
    assert items[3].problem.error_type == "not_found"


def test_object_whose_name_is_a_pattern(bucket):
    """Named outright, it is that object."""
    (item,) = Listing([f"s3://{bucket}/photos/odd/[x].jpg"])

    assert item.path == f"s3://{bucket}/photos/odd/[x].jpg"


@pytest.mark.parametrize("key", ["none/", "none", "photos/*.webp", "photos/**/none*"])
def test_nothing_there(bucket, key):
    """Alone it ends the run before anything is written; beside others it is a failed input."""
    if key != "none":  # which may be an object without an ending
        with pytest.raises(ConfigError, match="nothing lies there"):
            list(Listing([f"s3://{bucket}/{key}"]))
    items = list(Listing([f"s3://{bucket}/{key}", f"s3://{bucket}/photos/b/"]))
    assert [item.problem and item.problem.error_type for item in items] == [
        None if key == "none" else "not_found",
        None,
    ]


def test_missing_bucket(s3):
    """No run begins that would leave it out."""
    for key in ("", "x/", "x", "x/*.jpg"):
        if key != "x":
            with pytest.raises(ConfigError, match="no such file, folder or bucket"):
                list(Listing([f"s3://no-such-bucket/{key}", "s3://no-such-bucket/a.jpg"]))
    with pytest.raises(ConfigError, match="name the bucket"):
        list(Listing(["s3://*/x/"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": HUSH}, "credentials found here do not open it"),
        ({"AWS_ACCESS_KEY_ID": "AKIANOTOURS"}, "credentials found here do not open it"),
        ({"AWS_SECRET_ACCESS_KEY": None, "AWS_ACCESS_KEY_ID": None}, "no credentials were found"),
        pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the storage failed", marks=pytest.mark.slow),
    ],
)
def test_store_that_does_not_open(s3, bucket, tmp_path, change, said):
    """One line, exit code 2, or 1 where it may pass, and no secret in it."""
    variables = {name: value for name, value in (os.environ | change).items() if value is not None}
    run = subprocess.run(
        command(f"s3://{bucket}/photos/", tmp_path / "p.parquet", "--dry-run"),
        env=variables | {"MOTIVNET_DEBUG": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert run.returncode == (1 if "storage" in said else 2)
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert not secrets_in(s3, run.stdout, run.stderr)
    assert list(tmp_path.iterdir()) == []


def test_secret_in_a_url_is_not_said(s3):
    """Nor is it in what a traceback would print."""
    urls = [f"ftp://me:{HUSH}@127.0.0.1:9/photos/"]
    with pytest.raises((ConfigError, FetchError)) as caught:
        list(Listing(urls))
    assert not secrets_in(s3, *traceback.format_exception(caught.value))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures, broken ones among them, a video and an archive."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(24):
        path = folder / "deep" / f"{number:02d}.jpg" if number % 3 else folder / f"{number:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number % 7 == 3:
            path.write_bytes(b"not a picture")
        else:
            face_photo(path, size=(320, 240), faces=((160, 120, 60 + 3 * number),))
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for path in sorted(folder.glob("deep/*"))[:3]:
            archive.add(path, arcname=path.name)
    return folder


@pytest.fixture
def photo_bucket(s3, photos):
    name = s3.new_bucket()
    s3.upload(photos, name, "photos/")
    return name


@pytest.fixture
def undisturbed(photo_bucket, photos, tmp_path):
    """What the local folder comes to, after its files got the times of the objects."""
    out = tmp_path / "undisturbed.parquet"
    subprocess.run(command(photos, out), check=True, capture_output=True, timeout=300)
    return out


def test_rows_of_a_bucket_are_those_of_the_folder(photo_bucket, undisturbed, tmp_path):
    """Every column of both tables."""
    out = tmp_path / "p.parquet"
    subprocess.run(command(f"s3://{photo_bucket}/photos/", out), check=True, capture_output=True, timeout=300)

    assert_same_rows(out, undisturbed)


@pytest.mark.slow
def test_bucket_that_fails_now_and_then(s3, photo_bucket, undisturbed, tmp_path):
    """Every fifth request gets a 503 or no answer: the rows are the same."""
    out = tmp_path / "p.parquet"
    with FailingServer(s3, every=5) as front:
        subprocess.run(
            command(f"s3://{photo_bucket}/photos/", out),
            env=os.environ | s3.environment(url=front.url), check=True, capture_output=True, timeout=300,
        )  # fmt: skip

    assert front.num_failed > 5
    assert_same_rows(out, undisturbed)


# ---- the mirror -------------------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "memory", "file"])
def store_url(request, tmp_path):
    """Where outputs may go: objects that appear whole, here and elsewhere, and files that grow."""
    if request.param == "s3":
        yield f"s3://{request.getfixturevalue('s3').new_bucket()}/some/where"
    elif request.param == "memory":
        yield "memory://store/where"
        forget_memory()
    else:
        yield f"file://{tmp_path / 'store'}"


def mirrors_of(url, tmp_path):
    """As two machines have them."""
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        yield ObjectStoreMirror(url, tmp_path / name), tmp_path / name


def test_mirror_brings_what_the_other_pushed(store_url, tmp_path):
    """Whole files, by name, new over old; what is gone is gone here too."""
    (here, near), (there, far) = mirrors_of(store_url, tmp_path)
    assert not here.fetch(near / "deep" / "a")
    assert here.names(near) == here.names(near / "deep") == []
    for content in (b"one", b"another"):
        (near / "deep" / "a").write_bytes(content)
        here.publish(near / "deep" / "a")
        assert there.fetch(far / "deep" / "a")
        assert (far / "deep" / "a").read_bytes() == content
        assert there.open(far / "deep" / "a").read() == content
    (near / "unnamed").write_bytes(b"two")
    here.publish(near / "b", near / "unnamed")

    assert there.names(far) == ["b", "deep/"]
    assert there.names(far / "deep") == ["a"]
    assert there.has(far / "b")
    assert there.has(far / "deep")
    assert there.fetch_all([far / "deep" / "a", far / "b", far / "c"]) == [far / "deep" / "a", far / "b"]
    there.remove([far / "b", far / "c"])
    assert not here.has(near / "b")
    assert not (far / "b").exists()
    assert not there.fetch(far / "b")
    (near / "deep" / "a").write_bytes(b"old")
    here.remove([near / "deep" / "a"])
    assert not there.fetch(far / "deep" / "a")
    assert not (far / "deep" / "a").exists()


def test_only_the_first_creates(store_url, tmp_path):
    """The other is told, and what is there stays."""
    (here, near), (there, far) = mirrors_of(store_url, tmp_path)
    (near / "run").write_bytes(b"ours")
    (far / "run").write_bytes(b"theirs")

    assert here.create(near / "run")
    assert not there.create(far / "run")
    assert there.fetch(far / "run")
    assert (far / "run").read_bytes() == b"ours"


def test_pushing_to_a_store_that_fails_now_and_then(s3, tmp_path, monkeypatch):
    """Each step is tried again."""
    bucket = s3.new_bucket()
    with FailingServer(s3, every=2) as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
        fsspec.filesystem("s3").clear_instance_cache()
        mirror = ObjectStoreMirror(f"s3://{bucket}/x", tmp_path)
        for number in range(5):
            (tmp_path / str(number)).write_bytes(b"x")
            mirror.publish(tmp_path / str(number))
            assert mirror.has(tmp_path / str(number))
        assert mirror.names(tmp_path) == ["0", "1", "2", "3", "4"]
        assert front.num_failed >= 5
    fsspec.filesystem("s3").clear_instance_cache()


def test_full_disk_is_no_failure_of_the_store(s3, tmp_path, monkeypatch):
    """It is raised as it is, at once."""
    bucket = s3.new_bucket()
    s3.put(bucket, "a", b"x")
    mirror = ObjectStoreMirror(f"s3://{bucket}", tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mirror._fs, "get_file", full)
    with pytest.raises(OSError, match="No space left"):
        mirror.fetch(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# ---- outputs ----------------------------------------------------------------------------------------------


@pytest.fixture
def nine(tmp_path):
    return nine_inputs(tmp_path / "nine")


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr(ledger, "MAX_UNIT_ITEMS", 4)


def whole_run(nine, tmp_path):
    write(tmp_path / "whole", nine)
    return [table.rows() for table in tables(tmp_path / "whole")]


def rows_at(url):
    return [table.rows() for table in tables(url)]


@pytest.mark.parametrize("name", ["preds.parquet", "preds", "", "with.dot/"])
def test_output_in_a_bucket(s3, nine, tmp_path, small_units, name):
    """The rows of a local output, and no objects but those of a finished one; done once, it is not done again."""
    bucket = s3.new_bucket()
    url = f"s3://{bucket}/{name}"
    write(url, nine, commit_seconds=0)
    keys = s3.keys(bucket)

    assert rows_at(url) == whole_run(nine, tmp_path)
    if name == "preds.parquet":
        assert keys == ["preds.inputs.parquet", "preds.parquet"]
    else:
        below = name and name.rstrip("/") + "/"
        assert_parts_pair(key.removeprefix(below) for key in keys)
        assert {key.rpartition("/")[2].partition("-")[0] for key in keys if ".motivnet/" in key} == {"plan", "run.json"}
    assert write(url, nine).done == 9
    assert s3.keys(bucket) == keys


def assert_parts_pair(keys):
    """Of three units, each part of the inputs has its faces, no faces are without, and one of a unit is its last."""
    keys = list(keys)
    faces, inputs = ([key.rpartition("/")[2] for key in keys if f"{table}/" in key] for table in ("faces", "inputs"))
    assert faces == [name.replace("-end", "") for name in inputs]
    assert [unit_of(name) for name in inputs if is_last(name)] == [0, 1, 2]


def assert_no_litter(root, undisturbed):
    """Nothing lies there but what an undisturbed run leaves; that may have cut its units elsewhere."""
    left, expected = (
        [key for key in keys_under(each) if "faces/" not in key and "inputs/" not in key]
        for each in (root, undisturbed)
    )
    assert left == expected
    if len(keys_under(undisturbed)) > 2:
        assert_parts_pair(keys_under(root))


def test_parts_in_a_bucket_are_joined_here(s3, nine, tmp_path, small_units):
    """Three parts a table become one in a local folder, with the same rows."""
    url = f"s3://{s3.new_bucket()}/preds"
    write(url, nine)
    joined = merge([url], tmp_path / "joined")

    assert joined.files == 1
    assert rows_at(tmp_path / "joined") == whole_run(nine, tmp_path)


@pytest.fixture(
    params=[
        ("memory", 6),
        pytest.param(("memory", 1), marks=pytest.mark.slow),
        pytest.param(("s3", 7), marks=pytest.mark.slow),
    ],
    ids=["few", "all", "s3"],
)
def store(request):
    """A place for outputs, and how many of its calls come between two that are disturbed."""
    scheme, step = request.param
    if scheme == "s3":
        yield f"s3://{request.getfixturevalue('s3').new_bucket()}", step
    else:
        yield "memory://store", step
        forget_memory()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_killed_before_every_call_to_the_store(store, nine, tmp_path, small_units, monkeypatch, name):
    """And resumed on a machine that has nothing of it."""
    whole = whole_run(nine, tmp_path)
    root, step = store
    write(f"{root}/undisturbed/{name}", nine)
    for kill_at in range(0, 1000, step):
        url = f"{root}/{kill_at}/{name}"
        with dying_at(kill_at, monkeypatch) as death:
            write(url, nine, commit_seconds=0)
        write(url, nine, batch_size=3, commit_seconds=0)

        assert rows_at(url) == whole
        assert_no_litter(f"{root}/{kill_at}", f"{root}/undisturbed")
        if not death:
            break
    assert kill_at > 30


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_killed_while_replacing(store, nine, tmp_path, small_units, monkeypatch, name):
    """Dying anywhere in --overwrite, a run is finished by the same command, and by one without it unless refused."""
    whole = whole_run(nine, tmp_path)
    root, step = store
    for kill_at in range(0, 1000, step):
        url = f"{root}/{kill_at}/{name}"
        write(url, nine)
        with dying_at(kill_at, monkeypatch) as death:
            write(url, nine, overwrite=True)
        try:
            write(url, nine)
        except OutputConflictError:
            write(url, nine, overwrite=True)
        assert rows_at(url) == whole
        if not death:
            break
    assert kill_at > 30


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_another_process_does_all_of_it_meanwhile(store, nine, tmp_path, small_units, monkeypatch, name):
    """By accident, between any two calls to the store: the rows are the same, and nothing is left over."""
    whole = whole_run(nine, tmp_path)
    root, step = store
    write(f"{root}/undisturbed/{name}", nine)
    for number in range(0, 1000, step):
        url = f"{root}/{number}/{name}"
        with at_call(number, lambda url=url: write(url, nine, batch_size=3), monkeypatch) as happened:
            assert write(url, nine, commit_seconds=0).done == 9

        assert rows_at(url) == whole
        assert_no_litter(f"{root}/{number}", f"{root}/undisturbed")
        if not happened:
            break
    assert number > 30


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_last_shard_finishes_while_another_looks(store, nine, tmp_path, small_units, monkeypatch, name):
    """Whoever comes second finds the output in its place, at whatever moment that happens: at any call of either."""
    whole = whole_run(nine, tmp_path)
    root, step = store
    for number in range(0, 1000, step):
        happened = [shards_ending(f"{root}/{number}-{turn}/{name}", nine, number, turn, monkeypatch) for turn in (0, 1)]
        assert rows_at(f"{root}/{number}-0/{name}") == rows_at(f"{root}/{number}-1/{name}") == whole
        assert not any(".work" in key for key in keys_under(root))
        if not any(happened):
            break
    assert number > 8


def shards_ending(url, folder, number, turn, monkeypatch):
    """Two shards do all; one of them ends, and before its so manieth call to the store the other does."""
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        runs = [do_share(stack.enter_context(shard_of(url, n)), folder) for n, stack in enumerate((first, second))]

        def end(run, stack):
            assert run.complete() != "stopped"
            run.summary()
            stack.close()

        one, other = list(zip(runs, (first, second), strict=True))[:: -1 if turn else 1]
        with at_call(number, lambda: end(*other), monkeypatch) as happened:
            end(*one)
        if not happened:
            end(*other)
    return bool(happened)


def shard_of(url, index):
    return Output(OutputConfig(path=url), record=RECORD, layout=RowLayout(EMOTIONS, 4), shard=Shard(index, 2))


def do_share(output, folder):
    """Write the rows of all units of this shard, each input's faces in a batch of its own."""
    run = output.begin(Listing([str(folder)]))
    for todo in next(run.rounds(never), ()):
        item, count = todo.item, faces_in(todo.item)
        crops = crops_of(item, todo.cursor.position, count)
        batch = Batch(crops, (report_of(item, count),), Cursor(Position(item.index + 1)))
        run.write(batch, predict(crops) if crops else None)
    return run


@contextlib.contextmanager
def at_call(number, action, monkeypatch):
    """Do it before the so manieth call to the store; what comes out says whether it came so far."""
    calls, happened, with_retries = itertools.count(), [], storage.with_retries

    def disturbed(ask, url, **options):
        if not happened and next(calls) == number:
            happened.append(url)
            action()
        return with_retries(ask, url, **options)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "with_retries", disturbed)
        patch.setattr(backend, "with_retries", disturbed)
        yield happened


def keys_under(url):
    files, path = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    return sorted(key[len(path) :] for key in files.find(path))


@contextlib.contextmanager
def dying_at(number, monkeypatch):
    """From the so manieth call to the store on, nothing reaches it; what comes out says whether it came so far."""
    calls, death, with_retries = itertools.count(), [], storage.with_retries

    def dying(ask, url, **options):
        if death or next(calls) >= number:
            death.append(url)
            raise Killed
        return with_retries(ask, url, **options)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "with_retries", dying)
        patch.setattr(backend, "with_retries", dying)
        with contextlib.suppress(Killed):
            yield death


@pytest.mark.parametrize("options", [{}, {"overwrite": True}])
def test_parts_that_no_run_owns(s3, nine, tmp_path, options):
    """What the removal of a finished run left when it was interrupted counts for nothing."""
    bucket = s3.new_bucket()
    for table in ("faces", "inputs"):
        s3.put(bucket, f"p.parquet.work/{table}/part-000000-0000.parquet", b"of another run")
    write(f"s3://{bucket}/p.parquet", nine, **options)

    assert rows_at(f"s3://{bucket}/p.parquet") == whole_run(nine, tmp_path)
    assert s3.keys(bucket) == ["p.inputs.parquet", "p.parquet"]


def test_first_plan_holds_for_all(s3, nine, tmp_path):
    """Of two processes that list the inputs at the same time."""
    bucket = s3.new_bucket()

    def frozen(name, record):
        local, listing = tmp_path / name, Listing([str(nine)])
        store = ObjectStoreMirror(f"s3://{bucket}/x", local)
        return Ledger.freeze(RunFiles(local, local), store, listing, listing, record=record)

    first = frozen("1", {"settings": {}})
    (nine / "new.jpg").write_bytes(b"")
    second = frozen("2", {"settings": {"other": 1}})

    assert first.num_items == second.num_items == 9
    assert second.run.record == {"settings": {}}
    assert [item.input for item in second.items()] == [item.input for item in first.items()]
    assert len(s3.keys(bucket)) == 2


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_other_settings_and_others_objects(s3, nine, name):
    """Refused, and left as they are."""
    bucket = s3.new_bucket()
    url = f"s3://{bucket}/{name}"
    write(url, nine, stop_after=5, commit_seconds=0)
    keys = s3.keys(bucket)
    other = RECORD | {"settings": {"model.name": "other"}}
    with pytest.raises(OutputConflictError, match=r"model\.name was 'm', is now 'other'"):
        write(url, nine, record=other)
    assert s3.keys(bucket) == keys
    write(url, nine)
    with pytest.raises(OutputConflictError, match=r"model\.name was 'm', is now 'other'"):
        write(url, nine, record=other)
    s3.put(bucket, f"{name}-of-others", b"x")
    write(url, nine, record=other, overwrite=True)
    assert read_record(url) == other
    assert f"{name}-of-others" in s3.keys(bucket)


def test_occupied_prefix(s3, nine):
    """Also under --overwrite; what lies beside the name of a file is of no matter."""
    bucket = s3.new_bucket()
    s3.put(bucket, "out/notes.txt", b"x")
    s3.put(bucket, "set.parquet/part-0.parquet", b"x")
    s3.put(bucket, "mine.parquet", b"x")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(OutputConflictError, match="holds other objects"):
            write(f"s3://{bucket}/out", nine, **options)
        with pytest.raises(OutputConflictError, match="is a folder"):
            write(f"s3://{bucket}/set.parquet", nine, **options)
    with pytest.raises(OutputConflictError, match="was not written by motivnet"):
        write(f"s3://{bucket}/mine.parquet", nine)
    write(f"s3://{bucket}/out/preds.parquet", nine)

    assert len(s3.keys(bucket)) == 5


@pytest.mark.parametrize("option", ["retry_failed", "extend"])
def test_amending_is_refused(s3, nine, option):
    """With what to do."""
    with pytest.raises(ConfigError, match="copy 's3://none/preds' here first"):
        write("s3://none/preds", nine, **{option: True})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://no-such-bucket/x", "no such file, folder or bucket"),
        ("https://127.0.0.1:9/x", "a web server takes no files"),
        ("nosuch://x/y", "no driver"),
        ("s3://bucket/x.csv", "an output of annotate is a name ending in .parquet"),
    ],
)
def test_places_that_take_nothing(s3, nine, url, said):
    """Said before any work is done."""
    with pytest.raises(ConfigError, match=said):
        write(url, nine)


def test_output_that_is_not_there(s3, nine):
    """Reading says so; of an unfinished folder, what is there is read."""
    bucket = s3.new_bucket()
    with pytest.raises(ConfigError, match=f"no motivnet output at 's3://{bucket}/x'; expected s3://{bucket}/x/faces"):
        read_faces(f"s3://{bucket}/x")


def test_unfinished_folder_is_readable(s3, nine, small_units):
    """What is committed, with a word about it."""
    bucket = s3.new_bucket()
    write(f"s3://{bucket}/x", nine, stop_after=5, commit_seconds=0)

    assert read_inputs(f"s3://{bucket}/x")["input"].to_list() == [f"{n}.jpg" for n in range(4)]


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_status_at_every_stage(s3, nine, small_units, name):
    """Before, during and after, without bringing the faces here."""
    url = f"s3://{s3.new_bucket()}/{name}"
    with pytest.raises(ConfigError, match=f"no motivnet output at '{url}'; expected s3://"):
        output_status(url)
    write(url, nine, stop_after=5, commit_seconds=0)
    status = output_status(url)
    assert (status.finished, status.inputs, status.done, status.failed, status.faces) == (False, 9, 4, 1, 3)
    write(url, nine)
    status = output_status(url)
    assert (status.finished, status.inputs, status.done, status.failed, status.faces) == (True, 9, 9, 2, 9)


# ---- whole runs -------------------------------------------------------------------------------------------


def said_nothing_secret(server, bucket, *processes):
    """Neither in what was printed nor in any object."""
    texts = [text for each in processes for text in (each.stdout or "", each.stderr or "")]
    texts += [server.content(bucket, key).decode("latin-1") for key in server.keys(bucket)]
    return not secrets_in(server, *texts) and not any(server.key_id in text for text in texts)


def annotate(*arguments, **options):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, **({"check": True} | options)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_from_a_bucket_to_a_bucket_killed_and_resumed(s3, photo_bucket, undisturbed, name, tmp_path, monkeypatch):
    """With SIGKILL at several moments, each time resumed from what the store holds; nothing is left on this machine."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    bucket = s3.new_bucket()
    url, rng, kills = f"s3://{bucket}/{name}", random.Random(3), 0
    processes = []
    for round_ in range(5):
        options = ["--batch-size", str(rng.choice([1, 3, 8])), "--threads", str(rng.choice([1, 2]))]
        process = subprocess.Popen(
            command(f"s3://{photo_bucket}/photos/", url, *options),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while process.poll() is None and sum("inputs/part-" in key for key in s3.keys(bucket)) < round_:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        processes.append(subprocess.CompletedProcess(process.args, process.returncode, *process.communicate()))
        kills += process.returncode == -signal.SIGKILL
        assert said_nothing_secret(s3, bucket, *processes)
    last = annotate(f"s3://{photo_bucket}/photos/", url, "--json")

    assert kills >= 3
    assert_same_rows(url, undisturbed)
    assert said_nothing_secret(s3, bucket, *processes, last)
    assert f'"s3://{bucket}/' in last.stdout
    assert s3.keys(bucket) == ["preds.inputs.parquet", "preds.parquet"] or name == "preds"
    assert list(scratch.iterdir()) == []


def test_stopped_with_a_signal(s3, photos, photo_bucket):
    """What is whole is committed, and the exit code says that the same command goes on."""
    bucket = s3.new_bucket()
    url = f"s3://{bucket}/preds"
    process = HeldRun(command(photos, url, "--batch-size", "1"), held=r"2\d\.jpg$")
    while process.poll() is None and not any("inputs/part-" in key for key in s3.keys(bucket)):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    talk = process.communicate(timeout=300)[1]

    assert process.returncode == 75
    assert "run the same command again to continue" in talk
    status = [sys.executable, "-m", "motivnet_cli", "status", url, "--json"]
    told = json.loads(subprocess.run(status, check=False, capture_output=True, text=True, timeout=300).stdout)
    assert 0 < told["done"] < told["inputs"] == 25


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_two_shards_and_two_workers_at_once(s3, photos, photo_bucket, undisturbed, name):
    """Shards on machines that share the store alone; then worker processes of one machine."""
    bucket = s3.new_bucket()
    url = f"s3://{bucket}/{name}"
    shards = [
        subprocess.Popen(command(photos, url, "--shard", f"{n}/2"), stderr=subprocess.PIPE, text=True) for n in range(2)
    ]
    for shard in shards:
        assert shard.communicate(timeout=300)[1]
        assert shard.returncode == 0
    annotate(photos, url)
    assert_same_rows(url, undisturbed)

    url = f"s3://{bucket}/workers/{name}"
    annotate(photos, url, "--devices", "cpu,cpu")
    assert_same_rows(url, undisturbed)


@pytest.mark.slow
def test_output_on_a_store_that_fails_now_and_then(s3, photos, photo_bucket, undisturbed):
    """Every fifth request gets a 503 or no answer: the rows are the same."""
    bucket = s3.new_bucket()
    with FailingServer(s3, every=5) as front:
        annotate(photos, f"s3://{bucket}/preds", env=os.environ | s3.environment(url=front.url))

    assert front.num_failed > 3
    assert_same_rows(f"s3://{bucket}/preds", undisturbed)


def test_output_that_the_credentials_do_not_open(s3, photos):
    """One line and exit code 2, without the secret."""
    bucket = s3.new_bucket()
    run = annotate(photos, f"s3://{bucket}/p", env=os.environ | s3.environment(secret=HUSH), check=False)

    assert run.returncode == 2
    assert "credentials found here do not open it" in run.stderr
    assert said_nothing_secret(s3, bucket, run)


def test_export_reads_it(s3, nine, tmp_path):
    """From a copy."""
    bucket = s3.new_bucket()
    for name in ("preds", "preds.parquet"):
        write(f"s3://{bucket}/{name}", nine)
        subprocess.run(
            [sys.executable, "-m", "motivnet_cli", "export", "predictions", f"s3://{bucket}/{name}", "--to", "csv"],
            check=True, timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert len((tmp_path / "preds.csv").read_text().splitlines()) == 10
        (tmp_path / "preds.csv").unlink()
