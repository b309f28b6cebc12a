"""Object stores: a real S3 server on this machine, asked by real processes."""

from __future__ import annotations

import os
import subprocess
import tarfile
import traceback

import fsspec
import pytest

from motivnet_cli.config import InputConfig
from motivnet_cli.errors import ConfigError, FetchError
from motivnet_cli.plan import Listing
from motivnet_cli.remote import list_remote, read_bytes
from tests.pictures import face_photo
from tests.runs import assert_same, command
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
    assert len(list_remote(f"s3://{bucket}/")) == len(NAMES) > 2 * PAGE_KEYS


def test_any_store_of_fsspec_is_listed(tree):
    """Not S3 alone."""
    files = fsspec.filesystem("memory")
    for name in NAMES:
        files.pipe(f"/store/photos/{name}", (tree / name).read_bytes())
    listing = Listing(["memory://store/photos/"])

    assert [item.input for item in listing] == [item.input for item in Listing([str(tree)])]
    assert [item.input for item in Listing(["memory://store/*/*.jpg"])] == ["memory://store/photos/a-b.jpg"]
    files.store.clear()


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
        env=variables | {"MOTIVNET_DEBUG": "1"}, capture_output=True, text=True, timeout=120, check=False,
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

    assert_same(out, undisturbed)


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
    assert_same(out, undisturbed)
