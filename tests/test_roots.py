"""Where labelled sets are found without --root, what remembers them, and what --list says of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.cards import CARDS
from motivnet_cli.evaluation.datasets.inventory import state_of, states_of_all
from motivnet_cli.evaluation.datasets.roots import find_root, remember, user_config
from motivnet_cli.records import EMOTIONS
from tests.runs import motivnet
from tests.terminals import on_a_terminal
from tests.test_clip_sets import mmi_session
from tests.test_datasets import (
    empty,
    make_affectnet_arrays,
    make_jaffe,
    make_rafdb_list,
    picture,
    write,
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, and a user without settings."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home/config"))
    monkeypatch.delenv("MOTIVNET_DATASETS", raising=False)
    monkeypatch.delenv("MOTIVNET_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home/cache"))
    return folder


def jaffe(folder):
    make_jaffe(folder)
    return str(folder)


def settings(file, *lines):
    return write(file, "\n".join(["[datasets]", *lines]) + "\n")


# ---- the order of places ------------------------------------------------------------------------------------


def test_each_place_is_looked_at_in_its_order(here, tmp_path, monkeypatch):
    """With the set in all places, each is taken when those before it are gone; the given root comes first."""
    places = [tmp_path / name for name in ("given", "project", "user")]
    given, project, user = map(jaffe, places)
    shared, beside = jaffe(tmp_path / "sets/JAFFE"), jaffe(here / "jaffe")
    monkeypatch.setenv("MOTIVNET_DATASETS", str(tmp_path / "sets"))
    ours, theirs = (
        settings(here / "motivnet.toml", f"jaffe = '{project}'"),
        settings(user_config(), f"jaffe = '{user}'"),
    )

    assert find_root("jaffe", given) == (given, "--root")
    assert find_root("jaffe", Path(given).as_uri()) == (given, "--root")
    assert find_root("jaffe") == (project, f"[datasets] in {ours}")
    ours.unlink()
    assert find_root("jaffe") == (user, f"[datasets] in {theirs}")
    settings(theirs, "rafdb = '/elsewhere'")  # a file that names other sets
    assert find_root("jaffe") == (shared, "MOTIVNET_DATASETS")
    shutil.rmtree(shared)
    assert find_root("jaffe") == (beside, "working folder")


def test_relative_folders_are_those_of_the_file(here, tmp_path, monkeypatch):
    """A relative path counts from the folder of motivnet.toml, and ~ is the user's home."""
    jaffe(here / "sets/mine")
    settings(here / "motivnet.toml", "jaffe = 'sets/mine'", "kdef = '~/kdef'")
    make_jaffe(tmp_path / "home/kdef")

    assert find_root("jaffe").path == str(here / "sets/mine")
    assert find_root("kdef").path == str(tmp_path / "home/kdef")


@pytest.mark.parametrize("name", ["RAF-DB", "rafdb", "RAF_DB", "raf-db", "RAFDB", "Raf Db"])
def test_usual_names_count_in_any_case(here, name):
    """However its folder is spelled, the set is found in the working folder, and where that is the set's own."""
    make_rafdb_list(here / name)

    assert find_root("rafdb").path == str(here / name)


def test_no_usual_name_means_two_sets():
    """Only sets that come in one folder share a usual name of it."""
    together = ({"affectnet7", "affectnet8"}, {"rafdb", "rafdb_compound"})
    owners = defaultdict(set)
    for card in CARDS.values():
        for name in card.folders:
            owners[re.sub(r"[\s._-]", "", name.casefold())].add(card.name)

    assert [names for names in owners.values() if len(names) > 1 and names not in together] == []


@pytest.mark.parametrize("name", ["RAF-DB", "sets/RAF-DB"])
def test_the_working_folder_may_be_the_set(here, monkeypatch, name):
    """In the set's own folder nothing needs to be said; a folder with another name is not taken by its layout."""
    make_rafdb_list(here / name)
    monkeypatch.chdir(here / name)
    assert find_root("rafdb").path == str(here / name)

    (here / name).rename(here / "photos")
    monkeypatch.chdir(here / "photos")
    with pytest.raises(ConfigError, match="not found"):
        find_root("rafdb")


def test_two_copies_are_not_chosen_between(here):
    """Two folders of one place that hold the set are named; a link to the same folder is no second copy."""
    jaffe(here / "JAFFE")
    (here / "jaffe").symlink_to("JAFFE")
    assert find_root("jaffe").path == str(here / "JAFFE")

    jaffe(here / "jaffedbase")
    with pytest.raises(ConfigError, match=r"'.*/JAFFE', '.*/jaffedbase' all hold the set.*--root"):
        find_root("jaffe")


def test_two_copies_in_one_folder_are_said(here):
    """A folder with a usual name that holds the set twice is no folder without the set."""
    for name in ("one", "two"):
        jaffe(here / "JAFFE" / name)

    with pytest.raises(ConfigError, match=r"'.*/one', '.*/two' all look like the set"):
        find_root("jaffe")
    assert {state.name: state.state for state in states_of_all()}["jaffe"] == "unreadable"


def test_a_folder_with_the_name_and_another_content_is_not_taken(here, tmp_path, monkeypatch):
    """A usual name alone is not enough: the set must be recognised, and the error says that it was not."""
    picture(tmp_path / "sets/JAFFE/holiday.jpg")
    monkeypatch.setenv("MOTIVNET_DATASETS", str(tmp_path / "sets"))
    with pytest.raises(ConfigError, match=r"sets/JAFFE' \(no layout of the set is recognised in it\)"):
        find_root("jaffe")

    state = state_of("jaffe", split=None, protocol=None)
    assert (state.state, len(state.details)) == ("not found", 1)
    assert find_root("jaffe", jaffe(here / "jaffe")).path == find_root("jaffe").path


def test_the_error_names_every_place_and_where_to_ask(here, tmp_path, monkeypatch):
    """A set that is nowhere: exit code 2, with all places and the set's own address."""
    error = motivnet("evaluate", "--dataset", "rafdb", code=2).stderr

    for words in (str(here / "motivnet.toml"), str(user_config()), "MOTIVNET_DATASETS (not set)", f"'{here}'"):
        assert words in error
    assert "--remember rafdb=FOLDER" in error
    assert CARDS["rafdb"].where in error
    monkeypatch.setenv("MOTIVNET_DATASETS", str(tmp_path))
    assert f"MOTIVNET_DATASETS '{tmp_path}' (no RAF-DB" in motivnet("evaluate", "--dataset", "rafdb", code=2).stderr


# ---- what is wrong is said ----------------------------------------------------------------------------------


def test_a_named_folder_that_is_gone_is_no_reason_to_read_another(here, tmp_path):
    """An entry whose folder is not there ends the search, though another copy lies in the working folder."""
    jaffe(here / "jaffe")
    settings(here / "motivnet.toml", f"jaffe = '{tmp_path}/unmounted'")

    with pytest.raises(ConfigError, match=r"unmounted' is not there, and .*motivnet.toml' names it"):
        find_root("jaffe")


def test_a_variable_that_names_no_folder_is_said(here, monkeypatch):
    """MOTIVNET_DATASETS must be a folder where it counts; with a given root it does not."""
    monkeypatch.setenv("MOTIVNET_DATASETS", "/nowhere/sets")
    root = jaffe(here / "jaffe")

    with pytest.raises(ConfigError, match="MOTIVNET_DATASETS names '/nowhere/sets', which is no folder"):
        find_root("jaffe")
    assert find_root("jaffe", root).path == root


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_looked_into_is_said(here, tmp_path, monkeypatch):
    """The folder of sets is not this user's to read: no other place is taken in its stead."""
    closed = tmp_path / "sets"
    closed.mkdir(mode=0o000)
    monkeypatch.setenv("MOTIVNET_DATASETS", str(closed))
    jaffe(here / "jaffe")

    with pytest.raises(ConfigError, match="cannot be looked into for jaffe"):
        find_root("jaffe")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[datasets\nrafdb = 1", "cannot be read"),
        ("[datasets]\nrafdb = /data", "cannot be read"),
        ("[datasets]\nrafdb = '/a'\nrafdb = '/b'", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[dataset]\nrafdb = '/data'", "'dataset', which means nothing"),
        ("datasets = '/data'", "datasets is '/data'"),
        ("[datasets]\nraf = '/data'", "names the set 'raf'; there are rafdb"),
        ("[datasets]\nrafdb = 3", "the folder of rafdb is 3"),
        ("[datasets]\nrafdb = ''", "the folder of rafdb is ''"),
        ("[datasets.rafdb]\nroot = '/data'", "the folder of rafdb is {"),
    ],
)
@pytest.mark.parametrize("file", ["here/motivnet.toml", "home/config/motivnet/motivnet.toml"])
def test_a_wrong_file_is_an_error_of_its_own(tmp_path, text, words, file):
    """Syntax, types and names that are wrong end with exit code 2 and the file's name, and nothing is written."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))

    for arguments in (["--dataset", "rafdb"], ["--list"]):
        error = motivnet("evaluate", *arguments, code=2).stderr
        assert str(path) in error
        assert words in error
    assert path.read_bytes() == text.encode("latin-1")


# ---- --remember ---------------------------------------------------------------------------------------------


def test_a_set_is_remembered_and_the_rest_of_the_file_stays(here, tmp_path):
    """--remember writes one entry: comments, other entries and their order are kept; then no --root is needed."""
    file = user_config()
    text = "# my sets\n[datasets]\nkdef = '/data/kdef'  # on the big disk\njaffe = '/old'\n"
    write(file, text)
    root = jaffe(here / "pictures")

    said = motivnet("evaluate", "--remember", "jaffe=pictures").stderr

    assert f"remembered in {file}: jaffe = {root} (before: /old)" in said.replace("\n", "")
    assert file.read_text() == text.replace("'/old'", json.dumps(root))
    assert find_root("jaffe") == (root, f"[datasets] in {file}")


def test_the_first_entry_makes_the_file(here):
    """Where there is no file, it is made, with its folder; a link to a file elsewhere stays a link."""
    jaffe(here / "a=b, c")
    remember("jaffe", "a=b, c")
    assert user_config().read_text() == f'[datasets]\njaffe = "{here}/a=b, c"\n'

    kept = here / "dotfiles.toml"
    user_config().replace(kept)
    user_config().symlink_to(kept)
    done = remember("jaffe", jaffe(here / "two"))
    assert user_config().is_symlink()
    assert (done.file, done.before) == (str(kept), f"{here}/a=b, c")
    assert "two" in kept.read_text()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("jaffe", "such as rafdb=/data/RAF-DB"),
        ("jaffe=", "such as rafdb=/data/RAF-DB"),
        ("jafe=full", "no dataset is called 'jafe'"),
        ("jaffe=nowhere", "is no folder"),
        ("jaffe=empty", "no layout of this set was recognised"),
    ],
)
def test_nothing_wrong_is_remembered(here, entry, words):
    """A set that is unknown, or not in that folder, is refused, and no file is made."""
    jaffe(here / "full")
    (here / "empty").mkdir()

    assert words in motivnet("evaluate", "--remember", entry, code=2).stderr
    assert not user_config().exists()


def test_remember_takes_no_other_set(here):
    """The option stands by itself: with another set beside it, nothing says which is meant."""
    root = jaffe(here / "full")
    assert "by itself" in motivnet("evaluate", "--remember", f"jaffe={root}", "--dataset", "kdef", code=2).stderr
    assert not user_config().exists()


# ---- evaluations without --root -----------------------------------------------------------------------------


def right_answers(file, *folders):
    """A table with the right emotion of every picture of JAFFE or RAF-DB below the folders."""
    rows = ["path,emotion"]
    for make, folder in folders:
        rows += [f"{folder}/{name},{EMOTIONS[label]}" for name, label in make(Path(folder)).items()]
    return write(file, "\n".join(rows) + "\n")


def test_evaluations_say_which_root_they_took(here, tmp_path, monkeypatch):
    """One set, a suite with and without roots, and `compare predictions`: each works without --root, and says it."""
    monkeypatch.setenv("MOTIVNET_DATASETS", str(tmp_path / "sets"))
    folders = {"jaffe": tmp_path / "sets/JAFFE", "rafdb": here / "RAF-DB"}
    answers = right_answers(here / "a.csv", (make_jaffe, folders["jaffe"]), (make_rafdb_list, folders["rafdb"]))
    scored = ("--predictions", answers, "--resamples", "9")

    one = motivnet("evaluate", "--dataset", "rafdb", *scored, "--out", here / "one")
    suite = motivnet("evaluate", "--suite", f"rafdb,jaffe={folders['jaffe']}", *scored, "--out", here / "two", "--json")
    both = motivnet("compare", "predictions", answers, answers, "--dataset", "jaffe", "--resamples", "9")

    assert f"rafdb: {folders['rafdb']} (working folder)" in one.stderr.replace("\n", "")
    assert f"jaffe: {folders['jaffe']} (--root)" in suite.stderr.replace("\n", "")
    assert [each["dataset"]["n"] for each in json.loads(suite.stdout)] == [14, 7]
    assert f"jaffe: {folders['jaffe']} (MOTIVNET_DATASETS)" in both.stderr.replace("\n", "")

    metrics = json.loads((here / "one/metrics.json").read_text())
    assert metrics["dataset"]["root"] == str(folders["rafdb"])
    assert all(str(folders["rafdb"]) in (here / "one" / page).read_text() for page in ("report.md", "report.html"))


@pytest.mark.parametrize("suite", ["rafdb=", "=a", "rafdb,rafdb=b"])
def test_a_suite_that_is_not_clear_is_refused(suite):
    """A root without a set, a set with an empty root, and one set twice."""
    assert "--suite" in motivnet("evaluate", "--suite", suite, code=2).stderr


def test_missing_weights_are_said_as_annotate_says_them(here):
    """Without MotivNet's weights: the same text and exit code as of annotate, before the set is read."""
    make_rafdb_list(here / "rafdb")
    of_annotate = motivnet("annotate", here / "rafdb", "--out", here / "a.parquet", code=2).stderr
    shutil.rmtree(here / "rafdb/Image/aligned")  # what reading the set would say
    (here / "rafdb/Image/aligned").mkdir()

    of_evaluate = motivnet("evaluate", "--dataset", "rafdb", code=2).stderr

    assert of_annotate.splitlines()[-1].startswith("error: the weights of motivnet-1b are not here")
    assert of_evaluate.splitlines()[-1] == of_annotate.splitlines()[-1]
    assert not (here / "evaluation-rafdb").exists()


# ---- --list -------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_here_and_whole(here, tmp_path):
    """A whole set, one with files missing, one that is not recognised where it is said to be, one that is gone."""
    (here / "JAFFE").mkdir()
    for code, count in {"NE": 30, "HA": 31, "SA": 31, "SU": 30, "FE": 32, "DI": 29, "AN": 30}.items():
        for number in range(count):
            empty(here / f"JAFFE/KA.{code}1.{number}.tiff")
    make_affectnet_arrays(here / "AffectNet")
    (here / "other").mkdir()
    settings(here / "motivnet.toml", "kdef = 'other'", "expw = '/nowhere'")

    states = {state.name: state for state in states_of_all()}

    whole = states["jaffe"]
    assert (whole.state, whole.root, whole.split, whole.images, whole.published) == (
        *("whole", str(here / "JAFFE"), "all", 213, 213),
    )
    assert (states["affectnet7"].state, states["affectnet7"].images) == ("differs", 14)
    assert "affectnet7 val has 14 images here, 3,500 published" in states["affectnet7"].details
    assert states["affectnet8"].root == states["affectnet7"].root
    assert (states["kdef"].state, states["expw"].state, states["rafdb"].state) == (
        *("unreadable", "unreadable", "not found"),
    )
    assert "no layout" in states["kdef"].details[0]
    assert "is not there" in states["expw"].details[0]
    assert len(states["rafdb"].looked) == 4


def test_a_set_without_published_counts_is_found(here):
    """Nothing to compare with: `found`, unless a class is missing that the set has; clips are called clips."""
    for number in range(1, 7):
        mmi_session(here / f"MMI/Sessions/{number}", f"S001-{number:03}", emotion=number)

    state = state_of("mmi", split=None, protocol=None)  # it has no neutral
    shutil.rmtree(here / "MMI/Sessions/3")
    less = state_of("mmi", split=None, protocol=None)

    assert (state.state, state.images, state.unit, state.published, state.details) == ("found", 6, "clip", None, ())
    assert (less.state, less.images) == ("differs", 5)
    assert "no clip of neutral, fear" in less.details[0]
    assert "all: 5 clips" in motivnet("evaluate", "--list", "--dataset", "mmi").stdout


def test_a_folder_of_two_sets_is_listed_once(here, monkeypatch):
    """AffectNet is two sets of the same images: looking for both and counting both lists each folder once."""
    make_affectnet_arrays(here / "AffectNet")
    listed = Counter()
    scan = os.scandir

    def counted(folder):
        listed[folder] += 1
        return scan(folder)

    monkeypatch.setattr(os, "scandir", counted)
    states = {state.name: state for state in states_of_all()}

    assert states["affectnet7"].images == states["affectnet8"].images == 14
    assert {folder: count for folder, count in listed.items() if count > 1} == {}


def test_missing_files_are_named_in_the_list(here):
    """A set lacks three pictures of its index: the state says which."""
    make_rafdb_list(here / "RAF-DB")
    for picture_file in sorted((here / "RAF-DB/Image/aligned").glob("test_*"))[:3]:
        picture_file.unlink()

    state = state_of("rafdb", split="test", protocol=None)

    assert (state.state, state.images) == ("differs", 11)
    assert any("3 images of the index not on disk: Image/aligned/test_00000" in detail for detail in state.details)


def test_the_list_is_a_table_for_programs_and_json(here):
    """In a pipe a line each with tabs, the same columns in all; --json has the cards with what is here."""
    jaffe(here / "jaffe")

    lines = [line.split("\t") for line in motivnet("evaluate", "--list").stdout.splitlines()]
    cards = json.loads(motivnet("evaluate", "--list", "--json").stdout)

    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [row["set"] for row in rows] == [name for name, card in CARDS.items() if card.labels]
    found = {row["set"]: row for row in rows}["jaffe"]
    assert (found["state"], found["images"], found["published"]) == ("differs", "7", "213")
    assert [card["name"] for card in cards] == [*CARDS]
    assert {card["name"]: card["here"] for card in cards}["jaffe"]["root"] == str(here / "jaffe")


def test_a_root_is_listed_as_absolute(here, monkeypatch):
    """Also one that was given relative to the working folder, whether it can be read or not."""
    jaffe(here / "jaffe")
    (here / "bare").mkdir()
    monkeypatch.chdir(here)

    states = [state_of("jaffe", root, split=None, protocol=None) for root in ("jaffe", "bare")]

    assert [(state.state, state.root) for state in states] == [
        ("differs", str(here / "jaffe")),
        ("unreadable", str(here / "bare")),
    ]


def test_the_list_is_aligned_on_a_terminal(here):
    """On a terminal columns stand below each other, and what departs is said below."""
    jaffe(here / "jaffe")
    shown = on_a_terminal("evaluate", "--list").replace("\r", "")
    lines = shown.splitlines()

    assert "\t" not in shown
    column = lines[0].index("state")
    assert all(line[column - 1] == " " != line[column] for line in lines[1 : lines.index("")])
    assert any(line.startswith("jaffe: jaffe all has 7 images here, 213 published") for line in lines)


def test_one_set_is_described(here):
    """--list --dataset gives layouts, terms, where to ask, and what is here or was looked at."""
    nowhere = motivnet("evaluate", "--list", "--dataset", "rafdb").stdout
    make_rafdb_list(here / "rafdb")
    here_now = motivnet("evaluate", "--list", "--dataset", "rafdb", "--split", "train").stdout

    for shown in (nowhere, here_now):
        assert all(layout in shown for layout in CARDS["rafdb"].layouts)
        assert CARDS["rafdb"].where in shown
    assert "here: not found" in nowhere
    assert nowhere.count("looked at: ") == 4
    assert f"here: {here / 'rafdb'} (working folder)" in here_now
    assert "differs (train: 14 of 12,271)" in here_now
    for alone in (["--root", "."], ["--suite", "rafdb"]):
        assert "--list shows all sets" in motivnet("evaluate", "--list", *alone, code=2).stderr
