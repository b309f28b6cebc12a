"""Shards of one run become one output, or it is said why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.export.merge import merge
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.output.tables import METADATA_KEY
from tests.agreement import assert_same_rows
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
        merge([parts["one"], parts["two"]], str(tmp_path / "folder"))
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
