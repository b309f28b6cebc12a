"""Inputs as named -> items: order, names, and nothing dropped in silence."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.listing import Listing, summarise
from motivnet_cli.records import GivenFace


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    for name in ("z.JPG", "a.png", "b/c.webp", "notes.txt", ".hidden.jpg", "b/sound.mp3"):
        (root / name).write_bytes(b"x")
    return root


def names(inputs):
    return [item.input for item in Listing([str(each) for each in inputs])]


def test_folder_is_walked_in_byte_order_with_relative_names(folder):
    """One folder: names are relative to it, depth first, sorted by bytes, whatever the case of the ending."""
    assert names([folder]) == ["a.png", "b/c.webp", "z.JPG"]


def test_several_inputs_keep_their_given_names(folder):
    """With more than one input, each name begins with the input as given, so that equal names stay apart."""
    given = [folder / "z.JPG", folder / "b"]

    assert names(given) == [str(folder / "z.JPG"), str(folder / "b" / "c.webp")]


def test_index_is_the_place_in_the_plan(folder):
    """Items are numbered from 0 without gaps."""
    assert [item.index for item in Listing([str(folder)])] == [0, 1, 2]


def test_same_file_named_twice_is_one_input(folder):
    """An input that is reached twice appears once, and the listing says so."""
    listing = Listing([str(folder), str(folder / "a.png")])

    assert [item.input for item in listing].count(str(folder / "a.png")) == 1
    assert listing.skipped["named twice"] == 1


def test_what_is_passed_over_is_counted(folder):
    """Files that are no pictures by their ending, and hidden ones, are counted by ending."""
    listing = Listing([str(folder)])
    list(listing)

    assert listing.skipped == {".txt": 1, ".mp3": 1, "hidden": 1}


def test_file_named_outright_is_an_input_whatever_its_ending(folder):
    """A file that the user names is never passed over."""
    assert names([folder / "notes.txt"]) == [str(folder / "notes.txt")]


def test_nothing_exists_is_an_error_that_names_it(tmp_path):
    """A mistyped folder is a usage error, not an empty run."""
    with pytest.raises(ConfigError, match="no such file or folder: 'nowhere'"):
        Listing(["nowhere"])


def test_missing_file_among_others_stays_in_the_plan(folder):
    """One missing file among many is an input that will be listed as failed."""
    assert names([folder / "a.png", folder / "gone.jpg"])[-1].endswith("gone.jpg")


def test_link_to_a_folder_is_followed(folder, tmp_path):
    """Data sets are often folders of links."""
    (tmp_path / "linked").symlink_to(folder)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "sub").symlink_to(folder / "b")

    assert names([tmp_path / "root"]) == ["sub/c.webp"]


def test_link_loop_is_survived_and_listed(folder):
    """A link to a folder that holds it is not followed for ever, and is listed with the reason."""
    (folder / "b" / "up").symlink_to(folder)
    problems = {item.input: item.problem for item in Listing([str(folder)]) if item.problem}

    assert problems["b/up"].error_type == "link_loop"


def test_circular_file_links_reach_the_decoder(folder):
    """Links in a circle are inputs: the decoder gives the reason."""
    (folder / "l1.jpg").symlink_to("l2.jpg")
    (folder / "l2.jpg").symlink_to("l1.jpg")

    assert {"l1.jpg", "l2.jpg"} <= set(names([folder]))


def test_folder_named_like_a_picture(folder):
    """An empty folder named x.jpg is listed with the reason; one with pictures in it is a folder."""
    (folder / "x.jpg").mkdir()
    (folder / "y.jpg").mkdir()
    (folder / "y.jpg" / "in.png").write_bytes(b"x")
    items = {item.input: item.problem for item in Listing([str(folder)])}

    assert items["x.jpg"].error_type == "is_a_folder"
    assert items["y.jpg/in.png"] is None
    assert "y.jpg" not in items


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_bytes_that_are_not_utf8_become_escapes(tmp_path):
    """Such a name is shown with backslash escapes, and its path still opens."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))
    path.write_bytes(b"x")
    (item,) = Listing([str(tmp_path)])

    assert item.input == "\\xff.jpg"
    assert Path(item.path).read_bytes() == b"x"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder_is_listed(folder):
    """A folder that cannot be listed is an input with a problem."""
    (folder / "b").chmod(0)
    try:
        problems = [item.problem for item in Listing([str(folder)]) if item.problem]
    finally:
        (folder / "b").chmod(0o700)

    assert [problem.error_type for problem in problems] == ["unreadable_folder"]


def test_link_to_a_folder_above_the_given_one(folder):
    """A link that leads above the given folder would reach it again: it is listed, not followed."""
    (folder / "up").symlink_to(folder.parent)
    items = list(Listing([str(folder)]))

    assert [item.input for item in items] == ["a.png", "b/c.webp", "up", "z.JPG"]
    assert items[2].problem.error_type == "link_loop"


def listed(stdin=b"", **inputs):
    return list(Listing(InputConfig(**inputs), stdin=io.BytesIO(stdin)))


def problems(items):
    return {item.input: item.problem.error_type for item in items if item.problem}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "image") for name in ("a.JPG", "a.heic")),
        *((name, "video") for name in ("a.MP4", "a.m2ts")),
        *((name, "archive") for name in ("a.tar", "a.tar.gz", "a.tgz", "a.TAR.XZ", "a.zip")),
    ],
)
def test_kind_is_told_by_the_ending(tmp_path, name, kind):
    """In a folder and named outright alike."""
    (tmp_path / name).write_bytes(b"x")

    assert [item.kind for item in listed(paths=(str(tmp_path),))] == [kind]
    assert [item.kind for item in listed(paths=(str(tmp_path / name),))] == [kind]


def test_compressed_file_that_is_no_tar_is_passed_over(tmp_path):
    """`.json.gz` is no archive."""
    (tmp_path / "a.json.gz").write_bytes(b"x")
    listing = Listing([str(tmp_path)])

    assert list(listing) == []
    assert listing.skipped == {".gz": 1}


def test_size_and_time_are_those_of_the_file(folder):
    """Of every local file, found or named; a broken link has none."""
    os.utime(folder / "a.png", ns=(1, 1_234_567_890_123_456_789))
    (folder / "b" / "c.webp").write_bytes(b"four")
    (folder / "gone.jpg").symlink_to("nowhere")
    by_name = {item.input: (item.size_bytes, item.mtime_ns) for item in Listing([str(folder)])}

    assert by_name["a.png"] == (1, 1_234_567_890_123_456_789)
    assert by_name["b/c.webp"][0] == 4
    assert by_name["gone.jpg"] == (None, None)


def test_subfolders_can_be_left_out(folder):
    """Without recursion a folder is counted, not entered."""
    listing = Listing(InputConfig(paths=(str(folder),), recursive=False))

    assert [item.input for item in listing] == ["a.png", "z.JPG"]
    assert listing.skipped["subfolder"] == 1


@pytest.mark.parametrize(
    ("filters", "expected", "num_excluded"),
    [
        ({"include": ("*.png",)}, ["a.png"], 2),
        ({"include": ("b/*",)}, ["b/c.webp"], 2),
        ({"exclude": ("*.png", "z.*")}, ["b/c.webp"], 2),
        ({"exclude": ("b",)}, ["a.png", "z.JPG"], 1),
        ({"include": ("*.png", "*.JPG"), "exclude": ("a*",)}, ["z.JPG"], 2),
    ],
)
def test_filters_see_the_name_and_the_path_below_the_folder(folder, filters, expected, num_excluded):
    """`exclude` is stronger, and keeps out of folders; what is left out is counted."""
    listing = Listing(InputConfig(paths=(str(folder),), **filters))

    assert [item.input for item in listing] == expected
    assert listing.skipped["excluded"] == num_excluded


def test_filters_leave_files_named_outright(folder):
    """A file that the user names is read."""
    assert len(listed(paths=(str(folder / "a.png"),), exclude=("*",))) == 1


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("**/*.*", ["a.png", "b/c.webp", "z.JPG"]),
        ("**", ["a.png", "b/c.webp", "z.JPG"]),
        ("*", ["a.png", "b/c.webp", "z.JPG"]),
        ("[az].*", ["a.png", "z.JPG"]),
        ("?/c.webp", ["b/c.webp"]),
        ("*.txt", ["notes.txt"]),
        (".*.jpg", [".hidden.jpg"]),
    ],
)
def test_patterns_find_what_the_folder_holds_in_its_order(folder, monkeypatch, pattern, expected):
    """Folders that fit are walked; other endings count only where the pattern spells them out."""
    monkeypatch.chdir(folder)

    assert [item.input for item in listed(paths=(pattern,))] == expected
    assert names([folder / pattern]) == [str(folder / name) for name in expected]


def test_pattern_keeps_the_order_of_a_walk(folder):
    """A folder's files stand together, though a hyphen sorts before a slash."""
    for name in ("b-c/d.png", "b/d.png", "b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")

    assert names([folder / "**" / "*.*"]) == [str(folder / name) for name in names([folder])]


def test_file_named_like_a_pattern_is_itself(folder):
    """Brackets, stars and braces are also letters."""
    for name in ("a[1].jpg", "*.jpg", "{1,2}.jpg"):
        (folder / name).write_bytes(b"x")

        assert names([folder / name]) == [str(folder / name)]


@pytest.mark.parametrize("name", ["set [1]", "a*", "what?", "{x,y}", "b/c [2] {1..3}"])
def test_folders_named_like_a_pattern_are_themselves(folder, name, monkeypatch):
    """As the start of a pattern, in the middle of one, and as a folder; others that the name would fit are left out."""
    for each in (name, "set 1", "ab", "what1", "x", "b/c 2 1"):
        (folder / each).mkdir(parents=True, exist_ok=True)
        (folder / each / "f.jpg").write_bytes(b"x")
    monkeypatch.chdir(folder)

    assert names([f"{name}/*.jpg", "b"])[0] == f"{name}/f.jpg"
    assert [each for each in names([f"{name}/*.jpg", "z.JPG"]) if each.startswith(name)] == [f"{name}/f.jpg"]
    assert len(names([f"{name}/*.jpg"])) == 1
    assert names([name]) == ["f.jpg"]
    if "{" not in name:  # braces behind a wildcard are always several names
        assert f"{folder}/{name}/f.jpg" in names([f"{folder.parent}/p*/{name}/f.jpg"])


def test_missing_file_in_a_folder_named_like_a_pattern(folder):
    """It is named as it was given, and nothing else is taken for it."""
    for each in ("set [1]", "set 1"):
        (folder / each).mkdir()
    (folder / "set 1" / "f.jpg").write_bytes(b"x")
    items = listed(paths=(str(folder / "a.png"), str(folder / "set [1]" / "f.jpg")))

    assert [item.path for item in items] == [str(folder / "a.png"), str(folder / "set [1]" / "f.jpg")]


@pytest.mark.parametrize("name", ["a b%20ä#?.png", os.fsdecode(b"\xff.png"), "a[1].png", "plain.png"])
@pytest.mark.parametrize("form", ["{}", "file://localhost{}", "FILE:{}"])
def test_file_urls_are_the_files_that_they_name(tmp_path, name, form):
    """As Path.as_uri writes them: in arguments, lists and manifests; the name in the output is the path."""
    path = tmp_path / name
    path.write_bytes(b"x")
    url = path.as_uri() if form == "{}" else form.format(path.as_uri().removeprefix("file://"))
    (tmp_path / "list.txt").write_text(url)
    (tmp_path / "m.csv").write_text(f'path\n"{url}"\n')
    expected = [(os.fsencode(str(path)).decode("utf-8", "backslashreplace"), str(path), 1)]

    for inputs in (
        InputConfig(paths=(url,)),
        InputConfig(files_from=((tmp_path / "list.txt").as_uri(),)),
        InputConfig(manifests=((tmp_path / "m.csv").as_uri(),)),
    ):
        assert [(item.input, item.path, item.size_bytes) for item in Listing(inputs)] == expected
    assert names([tmp_path.as_uri()]) == names([tmp_path])


def test_file_urls_of_other_machines_are_found_nowhere(folder):
    items = listed(paths=(str(folder / "a.png"), "file://server/share/a.png"))

    assert items[1].input == "file://server/share/a.png"
    assert not os.path.lexists(items[1].path)
    with pytest.raises(ConfigError, match="another machine"):
        OutputConfig(path="file://server/share/p.parquet")


def test_pattern_without_a_match_is_listed_beside_others(folder):
    """It is an input that failed, with the reason; alone it is a usage error."""
    items = listed(paths=(str(folder / "a.png"), str(folder / "*.heic")))

    assert problems(items) == {str(folder / "*.heic"): "not_found"}
    with pytest.raises(ConfigError, match=r"heic"):
        Listing([str(folder / "*.heic")])


def test_circles_of_links_end_a_pattern(folder):
    """Two links back would double the work at each of forty levels."""
    for name in ("one", "two", "b/three"):
        (folder / name).symlink_to(folder)
    (folder / "up").symlink_to(folder.parent)

    assert names([folder / "**" / "*.png"]) == [str(folder / "a.png")]


def test_braces_stand_for_shards(tmp_path):
    """Ranges keep their zeros; lists and several braces multiply; a missing shard stays in the plan."""
    for number in (8, 9, 10):
        (tmp_path / f"s-{number:03}.tar").write_bytes(b"x")
    items = listed(paths=(str(tmp_path / "s-{008..011}.tar"),))

    assert [Path(item.input).name for item in items] == ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]
    assert [item.size_bytes for item in items] == [1, 1, 1, None]
    several = listed(paths=("https://h/{a,b}{2..1}.{jpg}",))
    assert [item.input for item in several] == [f"https://h/{each}.{{jpg}}" for each in ("a2", "a1", "b2", "b1")]


@pytest.mark.parametrize("pattern", ["{0..9999999999}.tar", "{0..9999}{0..9999}.tar"])
def test_braces_without_measure_are_refused(pattern):
    """Before a name of them is made."""
    with pytest.raises(ConfigError, match="more than"):
        Listing([pattern])


@pytest.mark.parametrize(
    ("url", "name", "kind"),
    [
        ("https://host/a.jpg", "https://host/a.jpg", "image"),
        ("http://host/v.mp4?start=3", "http://host/v.mp4?start=3", "video"),
        ("s3://bucket/key.tar.gz", "s3://bucket/key.tar.gz", "archive"),
        ("https://host/photo?id=1", "https://host/photo?id=1", "image"),
        ("https://me:pw@host/a.jpg?id=1&X-Amz-Signature=abc&token=t#f", "https://host/a.jpg?id=1", "image"),
    ],
)
def test_url_is_an_input_and_its_secrets_are_no_name(url, name, kind):
    """The path opens it; the name in the output has what tells it from others."""
    (item,) = listed(paths=(url,))

    assert (item.input, item.path, item.kind, item.size_bytes) == (name, url, kind, None)


@pytest.mark.parametrize("url", ["http://[bad/a.jpg", "foo://[bad/a.jpg", "s3://[/v.mp4"])
def test_a_url_without_a_true_host_is_a_row(tmp_path, url):
    """One bad line of a list does not end a run: whoever opens it says what is wrong."""
    (tmp_path / "list").write_text(f"{url}\nhttps://host/v.mp4\n")

    assert [item.kind for item in listed(files_from=(str(tmp_path / "list"),))][1:] == ["video"]


def test_list_on_stdin(folder, monkeypatch):
    """One path a line, spaces and all, relative to the current folder; a folder is walked, no pattern is tried."""
    monkeypatch.chdir(folder)
    (folder / " two  words [1].jpg ").write_bytes(b"x")
    items = listed(b"z.JPG\n\n two  words [1].jpg \nb\r\nhttps://h/x.jpg\n./z.JPG\n*.png", paths=("-",))

    assert [item.input for item in items] == [
        "z.JPG",
        " two  words [1].jpg ",
        "b/c.webp",
        "https://h/x.jpg",
        "*.png",
    ]
    assert [item.size_bytes for item in items] == [1, 1, 1, None, None]


def test_list_with_nul_bytes(folder, tmp_path):
    """As `find -print0` writes it: names may hold line breaks and bytes that are not UTF-8."""
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/line\nbreak \xff.jpg"))
    odd.write_bytes(b"x")
    content = subprocess.run(["find", folder, "-name", "*.jpg", "-print0"], capture_output=True, check=True).stdout
    (tmp_path / "list").write_bytes(content)
    items = listed(files0_from=(str(tmp_path / "list"),))

    assert sorted(item.path for item in items) == sorted([str(folder / ".hidden.jpg"), str(odd)])
    assert listed(content, files0_from=("-",)) == items


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_list_as_windows_writes_it(tmp_path, encoding):
    """With a byte order mark, and in UTF-16; longer than what is read at a time."""
    names = [f"Zoë{number}.jpg" for number in range(9000)]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "list").write_bytes((mark + "\r\n".join(names) + "\r\n").encode(encoding))

    assert [item.input for item in listed(files_from=(str(tmp_path / "list"),))] == names


def test_list_in_broken_utf16_is_a_usage_error(tmp_path):
    """A byte is missing."""
    (tmp_path / "list").write_bytes("a.jpg\n".encode("utf-16")[:-1])
    with pytest.raises(ConfigError, match="UTF-16"):
        listed(files_from=(str(tmp_path / "list"),))


def test_nul_bytes_in_a_list_of_lines_are_a_usage_error(folder):
    """A million names in one line would be one missing file."""
    with pytest.raises(ConfigError, match="--files0-from"):
        listed(b"a.jpg\0b.jpg\0", paths=("-",))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
@given(st.lists(st.binary(min_size=1).filter(lambda name: not {0, 10, 13} & set(name) and name.strip()), unique=True))
def test_every_name_of_a_list_comes_back(tmp_path_factory, lines):
    """Whatever bytes the lines hold, and however they are ended."""
    plain = [line for line in lines if b":" not in line and not line.startswith(b"\xef\xbb\xbf")]
    expected = {os.path.normpath(Path.cwd() / os.fsdecode(b"none/" + line)) for line in plain}
    for end in (b"\n", b"\r\n"):
        found = listed(end.join(b"none/" + line for line in plain), paths=("-",))
        assert {item.path for item in found} == expected
    assert {item.path for item in listed(b"".join(b"none/" + x + b"\0" for x in plain), files0_from=("-",))} == expected


@pytest.mark.parametrize("inputs", [{"paths": ("-", "-")}, {"paths": ("-",), "files0_from": ("-",)}])
def test_stdin_is_read_once(inputs):
    """Two lists cannot both stand there."""
    with pytest.raises(ConfigError, match="more than once"):
        listed(**inputs)


def test_missing_list_is_a_usage_error(tmp_path):
    """And a folder in its place."""
    for name in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="list of inputs"):
            listed(files_from=(str(name),))


def write_manifest(path, rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if path.suffix == ".parquet":
        pl.DataFrame([{key: row.get(key) for key in columns} for row in rows], infer_schema_length=None).write_parquet(
            path
        )
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pl.DataFrame([{key: row.get(key) for key in columns} for row in rows], infer_schema_length=None).write_csv(path)
    return str(path)


FORMATS = ("csv", "jsonl", "parquet")


@pytest.mark.parametrize("ending", FORMATS)
def test_manifest_gives_faces_and_values(folder, ending):
    """Rows of one path, apart from each other or not, are one item; values keep their types."""
    rows = [
        {"path": "a.png", "x1": 1, "y1": 2, "x2": 3.5, "y2": 4, "id": 7, "who": "ann", "good": True, "w": 0.5},
        {"path": "z.JPG", "x1": None, "y1": None, "x2": None, "y2": None, "id": 8, "who": None, "good": False, "w": 1},
        {"path": "a.png", "x1": 5, "y1": 5, "x2": 9, "y2": 9, "id": 9, "who": "bob", "good": None, "w": -2e-3},
    ]
    manifest = write_manifest(folder / f"m.{ending}", rows)
    listing = Listing(InputConfig(manifests=(manifest,), keep=("who", "id", "good", "w")))
    first, second = listing

    assert listing.kept_types == {"who": "string", "id": "int64", "good": "bool", "w": "float64"}
    assert (first.input, first.path, first.kept) == ("a.png", str(folder / "a.png"), ())
    assert first.given == (
        GivenFace((1.0, 2.0, 3.5, 4.0), ("ann", 7, True, 0.5)),
        GivenFace((5.0, 5.0, 9.0, 9.0), ("bob", 9, None, -0.002)),
    )
    assert (second.input, second.given, second.kept) == ("z.JPG", None, (None, 8, False, 1.0))
    assert [(item.index, item.size_bytes) for item in (first, second)] == [(0, 1), (1, 1)]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    "box",
    [
        (1, 1, 1, 2),
        (3, 1, 2, 2),
        (1, 1, 2, float("nan")),
        (1, 1, float("inf"), 2),
        (1, None, 2, 2),
        ("x", "1", "2", "2"),
    ],
)
def test_row_without_a_true_box_fails_its_picture(folder, ending, box):
    """The reason names the row and the value; other pictures stay."""
    if ending == "jsonl" and not all(isinstance(each, str) or math.isfinite(each or 0) for each in box):
        pytest.skip("JSON has no such numbers")
    cast = str if isinstance(box[0], str) else float
    good = dict(zip(("x1", "y1", "x2", "y2"), map(cast, (0, 0, 1, 1)), strict=True))
    bad = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
    rows = [{"path": "a.png", **good}, {"path": "z.JPG", **good}, {"path": "a.png", **bad}]
    first, second = listed(manifests=(write_manifest(folder / f"m.{ending}", rows),))

    assert first.problem.error_type == "bad_box"
    assert "row 3" in first.problem.message
    assert str(box[2]) in first.problem.message
    assert second.given == (GivenFace((0.0, 0.0, 1.0, 1.0)),)


def test_box_in_one_row_and_none_in_another_of_a_picture(folder):
    """Whether faces are given or to be found is said in all of its rows."""
    (folder / "m.csv").write_text("path,x1,y1,x2,y2\na.png,1,1,2,2\na.png,,,,\n")
    (item,) = listed(manifests=(str(folder / "m.csv"),))

    assert item.problem.error_type == "bad_box"
    assert "row 2" in item.problem.message


def test_box_for_a_video_is_refused(folder):
    """Of which frame?"""
    (folder / "m.csv").write_text("path,x1,y1,x2,y2\nclip.mp4,1,1,2,2\n")

    assert problems(listed(manifests=(str(folder / "m.csv"),))) == {"clip.mp4": "bad_box"}


def test_repeated_row_without_a_box_is_counted(folder):
    """One path is one input."""
    (folder / "m.csv").write_text("path\na.png\nz.JPG\na.png\n./a.png\n")
    listing = Listing(InputConfig(manifests=(str(folder / "m.csv"),)))

    assert [item.input for item in listing] == ["a.png", "z.JPG"]
    assert listing.skipped == {"named twice": 2}


def test_csv_quotes_and_empty_paths(folder):
    """Commas, quotes and line breaks in a path are part of it; a row without a path is listed."""
    for name in ('a, "b".jpg', "line\nbreak.jpg"):
        (folder / name).write_bytes(b"x")
    (folder / "m.csv").write_text('n,image\n1,"a, ""b"".jpg"\n2,\n3,"line\nbreak.jpg"\n4,""\n')
    items = listed(manifests=(str(folder / "m.csv"),), path_column="image", keep=("n",))

    assert [item.size_bytes for item in items] == [1, None, 1, None]
    assert [item.kept for item in items] == [(1,), (2,), (3,), (4,)]
    assert list(problems(items).values()) == ["not_found"] * 2
    assert "row 2" in items[1].problem.message


def test_identifiers_in_a_csv_keep_their_zeros(folder):
    """007 is no number, nor are 20 digits."""
    (folder / "m.csv").write_text("path,a,b,c\nx,007,12345678901234567890,1.50\ny,1,1,2\n")
    listing = Listing(InputConfig(manifests=(str(folder / "m.csv"),), keep=("a", "b", "c")))

    assert [item.kept for item in listing] == [("007", "12345678901234567890", 1.5), ("1", "1", 2.0)]


def test_path_of_a_manifest_may_be_relative_to_the_current_folder(folder, tmp_path, monkeypatch):
    """Beside the manifest is tried first, then here."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.csv").write_text("path\na.png\nz.JPG\nhttps://h/u.jpg\nnone.jpg\n")
    (tmp_path / "lists" / "a.png").write_bytes(b"beside")
    monkeypatch.chdir(folder)
    items = listed(manifests=("../lists/m.csv",))

    assert [item.size_bytes for item in items] == [6, 1, None, None]
    assert [item.input for item in items] == ["a.png", "z.JPG", "https://h/u.jpg", "none.jpg"]


def test_kept_types_of_several_manifests_are_brought_together(folder):
    """Inputs from elsewhere have no values."""
    for name, value in (("one", "1"), ("two", "0.5")):
        (folder / f"{name}.csv").write_text(f"path,v\n{name}.jpg,{value}\n")
    manifests = (str(folder / "one.csv"), str(folder / "two.csv"))
    listing = Listing(InputConfig(paths=(str(folder / "a.png"),), manifests=manifests, keep=("v",)))

    assert [item.kept for item in listing] == [(None,), (1.0,), (0.5,)]
    assert listing.kept_types == {"v": "float64"}


def test_a_column_without_values_decides_no_type(folder):
    """A manifest whose column is empty, or that has no rows, does not make text of the numbers of another."""
    for name, rows in (("one", "one.jpg,7\n"), ("two", "two.jpg,\n"), ("three", "")):
        (folder / f"{name}.csv").write_text(f"path,v\n{rows}")
    manifests = tuple(str(folder / f"{name}.csv") for name in ("one", "two", "three"))

    listing = Listing(InputConfig(manifests=manifests, keep=("v",)))
    assert [item.kept for item in listing] == [(7,), (None,)]
    assert listing.kept_types == {"v": "int64"}
    assert Listing(InputConfig(manifests=manifests[1:], keep=("v",))).kept_types == {"v": "string"}


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("m.csv", "a,n\nx,1\n", {}, "no column of paths by name .*; it has 'a', 'n'"),
        ("m.csv", "a,n\nx,1\n", {"path_column": "b"}, "no column 'b'; it has 'a', 'n'"),
        ("m.csv", "path,n\nx,1\n", {"keep": ("m",)}, "no column 'm'; it has 'path', 'n'"),
        ("m.csv", "path,x1,y1\nx,1,1\n", {}, "not x2, y2"),
        ("m.csv", "", {}, "cannot be read"),
        ("m.parquet", "path\n", {}, "cannot be read"),
        ("m.jsonl", '{"path": ', {}, "cannot be read"),
        ("m.jsonl", '{"path": "x", "n": [1]}\n', {"keep": ("n",)}, "only text, numbers and bool"),
        ("m.txt", "path\n", {}, "ends in one of"),
        ("none.csv", None, {}, "no such manifest"),
    ],
)
def test_manifest_that_cannot_serve_is_a_usage_error(tmp_path, name, content, options, said):
    """The message says what is there."""
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=said):
        Listing(InputConfig(manifests=(str(tmp_path / name),), **options))


def test_keep_needs_a_manifest(folder):
    """No other input has columns."""
    with pytest.raises(ConfigError, match="manifest"):
        Listing(InputConfig(paths=(str(folder),), keep=("id",)))


def test_everything_mixed_in_the_order_given(folder, tmp_path, monkeypatch):
    """Paths, stdin among them, then lists, then manifests; each thing once, under its first name."""
    monkeypatch.chdir(folder)
    (tmp_path / "lines").write_text("a.png\nb/c.webp\n")
    (tmp_path / "m.csv").write_text("path\nnotes.txt\nz.JPG\n")
    listing = Listing(
        InputConfig(
            paths=("b", "-", "a.*", "https://h/x.mp4"),
            files_from=(str(tmp_path / "lines"),),
            manifests=(str(tmp_path / "m.csv"),),
        ),
        stdin=io.BytesIO(b"z.JPG\n"),
    )

    assert [item.input for item in listing] == ["b/c.webp", "z.JPG", "a.png", "https://h/x.mp4", "notes.txt"]
    assert listing.skipped == {".mp3": 1, "named twice": 3}


def test_summary_counts_kinds_and_bytes(folder):
    """For a dry run."""
    (folder / "v.mkv").write_bytes(b"x" * 10)
    (folder / "s.tar").write_bytes(b"x" * 20)
    (folder / "loop").symlink_to(folder)
    listing = Listing([str(folder), "https://h/x.jpg"])
    contents = summarise(listing, listing)

    assert contents.counts == {"image": 4, "video": 1, "archive": 1}
    assert contents.size_bytes == {"image": 3, "video": 10, "archive": 20}
    assert (contents.num_without_size, contents.problems) == (1, {"link_loop": 1})
    assert contents.skipped == {".mp3": 1, ".txt": 1, "hidden": 1}


@pytest.mark.parametrize("way", ["folder", "files", "pattern", "list", "manifest", "folder by a link"])
def test_names_that_do_not_depend_on_how_files_are_named(folder, tmp_path, monkeypatch, way):
    """--relative-to and --absolute name each file alike, by whatever way it is reached."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text("photos/a.png\nphotos/b/c.webp\nphotos/z.JPG\n")
    (folder / "b" / "m.csv").write_text("path\n../a.png\nc.webp\n../z.JPG\n")
    (tmp_path / "link").symlink_to(folder)
    ways = {
        "folder": {"paths": ("photos/.",)},
        "files": {"paths": ("photos/b/../a.png", "./photos/b", (folder / "z.JPG").as_uri())},
        "pattern": {"paths": ("photos/**/*.*",)},
        "list": {"files_from": ("list",)},
        "manifest": {"manifests": ("photos/b/m.csv",)},
        "folder by a link": {"paths": ("link",)},
    }
    expected = ["a.png", "b/c.webp", "z.JPG"]

    for start in ("photos", str(folder), folder.as_uri()):
        assert [item.input for item in listed(**ways[way], relative_to=start)] == expected
    if way != "folder by a link":
        assert [item.input for item in listed(**ways[way], absolute=True)] == [str(folder / name) for name in expected]


def test_name_of_a_file_outside_of_the_folder(folder):
    """Refused, since it has none below it; URLs keep theirs."""
    with pytest.raises(ConfigError, match="does not lie in"):
        listed(paths=(str(folder),), relative_to=str(folder / "b"))
    items = listed(paths=("https://host/x.jpg", str(folder / "a.png")), relative_to=str(folder))

    assert [item.input for item in items] == ["https://host/x.jpg", "a.png"]


def test_one_file_by_two_ways_has_one_name(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    items = listed(paths=(str(folder / "a.png"), str(tmp_path / "link" / "a.png")), relative_to=str(folder))

    assert [item.input for item in items] == ["a.png"]
