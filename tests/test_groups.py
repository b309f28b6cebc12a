"""Figures by group: what sets say of their images, and whether groups differ."""

from __future__ import annotations

import polars as pl
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.read import read_dataset
from tests.test_datasets import make_rafdb_list, picture, write

# ---- what is known of the images --------------------------------------------------------------------------


def columns_of(found):
    return {image.name: dict(image.columns) for image in found.images}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_any_column_of_a_table_can_be_asked_for(tmp_path, kind):
    """Only the columns that are asked for are read, as text; an empty cell is not known."""
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    table = pl.DataFrame(
        {"path": ["a.png", "b.png", "c.png"], "label": ["happy", "sad", "fear"], "age": [30, 31, None]}
        | {"Gender": ["f", " m ", ""], "subject": ["x", "y", "z"]}
    )
    path = tmp_path / f"set.{kind}"
    (table.write_csv if kind == "csv" else table.write_parquet)(path)
    found = read_dataset(kind, str(path), columns=["age", "Gender", "hair"])

    assert columns_of(found) == {
        "a.png": {"age": "30", "Gender": "f"},
        "b.png": {"age": "31", "Gender": "m"},
        "c.png": {},
    }
    assert found.columns == ("subject", "path", "label", "age", "Gender")
    assert columns_of(read_dataset(kind, str(path))) == {"a.png": {}, "b.png": {}, "c.png": {}}


def test_names_of_kdef_hold_gender_session_and_angle(tmp_path):
    """The letters of KDEF's names: session A or B, F or M, and the angle after the expression."""
    for name in ("AF01HAS", "BM35ANS", "BM35ANFL"):
        picture(tmp_path / name[:4] / f"{name}.JPG")
    found = read_dataset("kdef", str(tmp_path), protocol="all_angles")

    assert columns_of(found) == {
        "AF01/AF01HAS.JPG": {"gender": "female", "session": "A", "angle": "S"},
        "BM35/BM35ANS.JPG": {"gender": "male", "session": "B", "angle": "S"},
        "BM35/BM35ANFL.JPG": {"gender": "male", "session": "B", "angle": "FL"},
    }
    assert found.columns == ("subject", "gender", "session", "angle")


def test_annotations_of_rafdb_are_read_where_they_are_asked_for(tmp_path):
    """The three lines after the landmarks; an image without a file is not known, other contents are refused."""
    make_rafdb_list(tmp_path)
    landmarks = "1.0\t2.0\n" * 5
    write(tmp_path / "Annotation/manual/test_00000_manu_attri.txt", landmarks + "1\n2\n4\n")
    write(tmp_path / "Annotation/manual/test_00001_manu_attri.txt", landmarks + "2\n0\n0\n")
    plain, asked = read_dataset("rafdb", str(tmp_path)), read_dataset("rafdb", str(tmp_path), columns=["gender"])

    assert not any(columns_of(plain).values())
    assert [*columns_of(asked).values()][:3] == [
        {"gender": "female", "race": "Asian", "age": "70+"},
        {"gender": "unsure", "race": "Caucasian", "age": "0-3"},
        {},
    ]
    assert plain.columns == asked.columns == ("gender", "race", "age")

    write(tmp_path / "Annotation/manual/test_00002_manu_attri.txt", landmarks + "1\n2\n5\n")
    with pytest.raises(ConfigError, match="holds '1', '2', '5' after its landmarks: expected the numbers of gender"):
        read_dataset("rafdb", str(tmp_path), columns=["age"])
