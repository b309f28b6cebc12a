"""Inputs as named -> items: order, names, and nothing dropped in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.plan import Listing


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    for name in ("z.JPG", "a.png", "b/c.webp", "notes.txt", ".hidden.jpg", "b/clip.mp4"):
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

    assert listing.skipped == {".txt": 1, ".mp4": 1, "hidden": 1}


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
