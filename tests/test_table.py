"""Tables that users bring: every format and separator gives the same columns."""

from __future__ import annotations

import json

import polars as pl
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.table import open_table

COLUMNS = ("path", "label")
ROWS = [("a,b;c.jpg", "007"), ("d.jpg", None)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t"])
def test_text_is_separated_as_its_first_line_is(tmp_path, name, separator):
    """Whatever the ending of its name; every cell stays text."""
    pl.DataFrame(ROWS, COLUMNS, orient="row").write_csv(tmp_path / name, separator=separator)
    table = open_table(str(tmp_path / name), "list")

    assert (table.columns, table.is_text) == (COLUMNS, True)
    assert table.read([pl.col("label", "path")]).rows() == [(label, path) for path, label in ROWS]


@pytest.mark.parametrize(("name", "cell"), [("t.csv", "a;b"), ("t.tsv", "a;b,c"), ("t.txt", "a;b")])
def test_column_alone(tmp_path, name, cell):
    """A first line without separators leaves that of the ending, a tab or a comma."""
    (tmp_path / name).write_text(f"path\n{cell}\n")

    assert open_table(str(tmp_path / name), "list").read([pl.col("path")]).rows() == [(cell,)]


@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "parquet", "pq", "PARQUET"])
def test_formats_with_types_keep_them(tmp_path, ending):
    """Numbers stay numbers."""
    path = tmp_path / f"t.{ending}"
    if ending.endswith("l") or ending == "ndjson":
        path.write_text("".join(json.dumps({"path": name, "n": n}) + "\n" for n, (name, _) in enumerate(ROWS)))
    else:
        pl.DataFrame({"path": [name for name, _ in ROWS], "n": [0, 1]}).write_parquet(path)
    table = open_table(str(path), "list")

    assert (table.columns, table.is_text) == (("path", "n"), False)
    assert table.read([pl.col("n") + 1]).rows() == [(1,), (2,)]


def test_table_that_breaks_off_is_a_usage_error(tmp_path):
    """When it is opened, or when its rows are read."""
    (tmp_path / "t.jsonl").write_text('{"path": "a"}\n{"path": ')
    with pytest.raises(ConfigError, match=r"the list '.*t\.jsonl' cannot be read: \w"):
        open_table(str(tmp_path / "t.jsonl"), "list").read([pl.col("path")])
    with pytest.raises(ConfigError, match="no such list"):
        open_table(str(tmp_path), "list")
