"""Shards of one run become one output, or it is said why not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.export.merge import merge
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.output.status import output_status
from motivnet_cli.output.tables import METADATA_KEY
from motivnet_cli.output.verify_sample import planned_items
from tests.agreement import assert_same_rows
from tests.outputs import assert_whole
from tests.pictures import face_photo


def annotate(out, *arguments):
    command = ["annotate", *map(str, arguments), "--model", "expression-net", "--out", str(out), "-q"]
    assert CliRunner().invoke(app, command).exit_code == 0
    return str(out)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two outputs of one kind of run over different pictures, and one over all."""
    folder = tmp_path_factory.mktemp("parts")
    for number in range(4):
        face_photo(folder / f"{number}.jpg", size=(240, 200), faces=((100, 100, 60 + number),))
    one = annotate(folder / "one.parquet", folder / "0.jpg", folder / "1.jpg")
    annotate(folder / "two2.parquet", folder / "2.jpg", folder / "3.jpg")
    two = annotate(folder / "two", folder / "2.jpg", folder / "3.jpg")
    whole = annotate(folder / "whole.parquet", *(folder / f"{number}.jpg" for number in range(4)))
    other = annotate(folder / "other.parquet", folder / "2.jpg", "--no-flip")
    return {"one": one, "two": two, "whole": whole, "other": other}


def as_shard(source, target, index, count):
    """The same output, saying that it is a shard."""
    for ending in ("", ".inputs"):
        path = source.replace(".parquet", f"{ending}.parquet")
        table = pq.read_table(path)
        record = json.loads(table.schema.metadata[METADATA_KEY]) | {"shard": {"index": index, "count": count}}
        metadata = {**table.schema.metadata, METADATA_KEY: json.dumps(record).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), str(target).replace(".parquet", f"{ending}.parquet"))
    return str(target)


def test_the_joined_output_is_that_of_one_run(parts, tmp_path):
    """A file and a folder, joined: the rows of a run over everything."""
    result = merge([parts["one"], parts["two"]], str(tmp_path / "m.parquet"))

    assert_same_rows(tmp_path / "m.parquet", parts["whole"])
    assert result.faces == read_faces(parts["whole"]).height
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_shards_come_in_their_order_and_none_may_lack(parts, tmp_path):
    """Given in any order; a missing one is named."""
    first = as_shard(parts["one"], tmp_path / "a.parquet", 0, 2)
    merge([parts["two"], parts["one"]], str(tmp_path / "t.parquet"), allow_mixed=True)
    second = as_shard(parts["two"].replace("two", "two2.parquet"), tmp_path / "b.parquet", 1, 3)
    with pytest.raises(ConfigError, match=r"2 of 3|shard.*2"):
        merge([second, first], str(tmp_path / "m.parquet"))
    merge([second, first], str(tmp_path / "m.parquet"), allow_mixed=True)
    assert read_inputs(tmp_path / "m.parquet")["input"].to_list() == [
        *read_inputs(first)["input"],
        *read_inputs(second)["input"],
    ]


def test_what_does_not_belong_together_is_refused(parts, tmp_path):
    """Another run, a doubled input, a part without its inputs table, an output that is there."""
    out = str(tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match=r"another run.*model\.flip"):
        merge([parts["one"], parts["other"]], out)
    with pytest.raises(ConfigError, match="2 inputs are in more than one output"):
        merge([parts["one"], parts["whole"]], out)
    shutil.copy(parts["one"], tmp_path / "alone.parquet")
    with pytest.raises(ConfigError, match="inputs"):
        merge([str(tmp_path / "alone.parquet"), parts["two"]], out)
    with pytest.raises(ConfigError, match="named more than once"):
        merge([parts["one"], parts["one"]], out)
    with pytest.raises(ConfigError, match=r"ending in \.parquet"):
        merge([parts["one"], parts["two"]], str(tmp_path / "m.csv"))
    with pytest.raises(ConfigError, match="--part-size is of a folder"):
        merge([parts["one"], parts["two"]], out, part_bytes=1)
    assert not (tmp_path / "m.parquet").exists()
    pl.DataFrame({"a": [1]}).write_parquet(out)
    with pytest.raises(ConfigError, match="--overwrite"):
        merge([parts["one"], parts["two"]], out)
    assert merge([parts["one"], parts["whole"]], out, allow_mixed=True, overwrite=True).doubled == 2


def test_a_damaged_part_is_named(parts, tmp_path):
    """Rows that cannot be read are a fault of their file, and not of the place that is written to."""
    damaged = as_shard(parts["one"], tmp_path / "d.parquet", 0, 2)
    column = pq.read_metadata(damaged).row_group(0).column(3)
    with Path(damaged).open("r+b") as file:
        file.seek(column.dictionary_page_offset or column.data_page_offset)
        file.write(b"\xff" * column.total_compressed_size)
    with pytest.raises(OutputConflictError, match=r"d\.parquet' is damaged"):
        merge(
            [damaged, as_shard(parts["two"] + "2.parquet", tmp_path / "e.parquet", 1, 2)], str(tmp_path / "m.parquet")
        )
    assert not (tmp_path / "m.parquet").exists()


# ---- folders of parts -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_parts(parts, tmp_path_factory):
    """A folder of four parts, of a face each."""
    pictures = sorted(Path(parts["whole"]).parent.glob("?.jpg"))
    folder = tmp_path_factory.mktemp("small") / "small"
    return annotate(folder, *pictures, "--commit-seconds", "0", "--batch-size", "1", "--threads", "1")


def sizes_of(out, table):
    return [path.stat().st_size for path in sorted((Path(out) / table).iterdir())]


def test_parts_are_joined_up_to_a_size(small_parts, tmp_path):
    """Parts that follow each other, whole: the same rows in fewer files, and an output like any other."""
    sizes = sizes_of(small_parts, "faces")
    assert len(sizes) == 4
    most = max(sum(sizes[:2]), sum(sizes[2:]))
    joined = merge([small_parts], tmp_path / "two", part_bytes=most)
    all_in_one = merge([small_parts], tmp_path / "one")
    none = merge([small_parts], f"{tmp_path}/no.ne/", part_bytes=1)

    assert (joined.files, all_in_one.files, none.files) == (2, 1, 4)
    for out in (tmp_path / "two", tmp_path / "one", tmp_path / "no.ne"):
        assert_same_rows(out, small_parts)
        assert read_inputs(out)["input"].to_list() == read_inputs(small_parts)["input"].to_list()
        assert_whole(out)
    assert [read_faces(tmp_path / "two").height, len(sizes_of(tmp_path / "two", "inputs"))] == [4, 2]
    assert max(sizes_of(tmp_path / "two", "faces")) <= most
    assert output_status(tmp_path / "two").finished
    assert [path.name for path in sorted((tmp_path / "two" / "inputs").iterdir())] == [
        "part-000000-0000-end.parquet",
        "part-000001-0000-end.parquet",
    ]


def test_shards_become_a_folder(parts, tmp_path):
    merged = merge([parts["one"], parts["two"]], tmp_path / "m")

    assert_same_rows(tmp_path / "m", parts["whole"])
    assert_whole(tmp_path / "m")
    assert (merged.files, merged.outputs) == (1, (str(tmp_path / "m" / "faces"), str(tmp_path / "m" / "inputs")))


def test_a_joined_folder_is_gone_on_with(small_parts, parts, tmp_path):
    """The same command finds it finished; another picture is added to it."""
    merge([small_parts], tmp_path / "m")
    pictures = sorted(Path(parts["whole"]).parent.glob("?.jpg"))
    before = sizes_of(tmp_path / "m", "faces")
    annotate(tmp_path / "m", *pictures)
    assert sizes_of(tmp_path / "m", "faces") == before
    face_photo(tmp_path / "new.jpg", size=(240, 200), faces=((100, 100, 66),))
    annotate(tmp_path / "m", *pictures, tmp_path / "new.jpg", "--extend")

    assert read_inputs(tmp_path / "m")["input"].to_list() == [
        *read_inputs(small_parts)["input"],
        str(tmp_path / "new.jpg"),
    ]
    assert_whole(tmp_path / "m")


def test_only_what_is_finished_becomes_a_folder(small_parts, tmp_path):
    """A folder says that everything is done; what is there of others becomes a file."""
    left = tmp_path / "left"
    shutil.copytree(small_parts, left)
    about = json.loads((left / ".motivnet" / "run.json").read_text())
    (left / ".motivnet" / "run.json").write_text(json.dumps(about | {"finished": False}))
    with pytest.raises(ConfigError, match="left' is not finished"):
        merge([left], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    (left / ".motivnet" / "run.json").write_text(json.dumps(about))
    (left / ".motivnet" / "moves.json").write_text("[]")  # an amendment is being put in its place
    with pytest.raises(ConfigError, match="left' is not finished"):
        merge([left], tmp_path / "m")

    assert merge([left], tmp_path / "m.parquet").faces == 4


@pytest.mark.parametrize("table", ["faces", "inputs"])
@pytest.mark.parametrize("place", [1, -1])
def test_nothing_is_made_of_a_folder_that_lacks_a_part(small_parts, tmp_path, caplog, table, place):
    """The joined output would say that it is whole; who reads what is left is told."""
    left = tmp_path / "left"
    shutil.copytree(small_parts, left)
    sorted((left / table).iterdir())[place].unlink()
    for name in ("m", "m.parquet"):
        with pytest.raises(OutputConflictError, match=rf"left' are gone \(1, such as .*/{table}/part-"):
            merge([left], tmp_path / name, allow_mixed=True)
    read_faces(left)

    assert [path.name for path in tmp_path.iterdir()] == ["left"]
    assert f"files of {left} are gone (1, such as {left / table}" in caplog.text


def test_of_a_joined_folder_no_input_is_planned(small_parts, tmp_path):
    """It has no plan: whoever looks for inputs asks the folders that they came from."""
    merge([small_parts], tmp_path / "m")

    names = set(read_inputs(small_parts)["input"])
    assert planned_items(small_parts, names).keys() == names
    assert planned_items(tmp_path / "m", names) == {}


def test_a_folder_is_replaced_only_if_a_merge_made_it(small_parts, tmp_path):
    merge([small_parts], tmp_path / "m")
    with pytest.raises(ConfigError, match="--overwrite"):
        merge([small_parts], tmp_path / "m")
    assert merge([small_parts], tmp_path / "m", part_bytes=1, overwrite=True).files == 4
    assert len(sizes_of(tmp_path / "m", "faces")) == 4
    with pytest.raises(ConfigError, match="holds what the export is made from"):
        merge([small_parts], small_parts, overwrite=True)
    shutil.copytree(small_parts, tmp_path / "run")
    with pytest.raises(ConfigError, match="no export made"):
        merge([small_parts], tmp_path / "run", overwrite=True)


class Killed(BaseException):
    """The process is gone: nothing that it does afterwards reaches a file."""


@pytest.fixture
def calls(monkeypatch):
    """What can be seen on the disk of a merge to a folder, counted; from the number `kill_at` on, each is the end."""
    calls = SimpleNamespace(made=0, kill_at=None)

    def dying(call):
        def step(*arguments, **options):
            calls.made += 1
            if calls.kill_at is not None and calls.made >= calls.kill_at:
                raise Killed
            return call(*arguments, **options)

        return step

    for name in ("fsync", "rename", "replace"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree))
    return calls


@pytest.mark.thorough
def test_a_joined_folder_appears_whole_or_not_at_all(small_parts, tmp_path, calls):
    """Killed before each sync, rename and removal; the next call ends what is left."""
    merge([small_parts], tmp_path / "m")
    total = calls.made
    assert total > 8
    for number in range(1, total + 1):
        out = tmp_path / f"{number}"
        calls.made, calls.kill_at = 0, number
        with pytest.raises(Killed):
            merge([small_parts], out)
        if out.exists():
            assert read_inputs(out).height == 4
            assert_whole(out)
        calls.kill_at = None
        merge([small_parts], out, overwrite=out.exists())
        assert_same_rows(out, small_parts)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["m", *map(str, range(1, total + 1))])
