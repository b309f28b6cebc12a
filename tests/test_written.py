"""No file that a run reads is among those that it writes, whatever its name is and whatever is asked."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.paths import output_paths
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.output.written import WrittenPaths
from motivnet_cli.records import EMOTIONS
from tests.outputs import RECORD, nine_inputs, run
from tests.runs import motivnet

MODEL = ("--model", "expression-net")


def contents(folder):
    """Of every file but the locks, which a run may leave."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path: sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Manifests and lists under the names that a run would write, beside two outputs."""
    photos = nine_inputs(tmp_path / "photos")
    for name in ("preds.parquet", "preds"):
        run(tmp_path / name, photos)
    manifest = pl.DataFrame({"path": ["photos/1.jpg"]})
    for name in ("m.parquet", "x.inputs.parquet", ".t.parquet.tmp"):
        manifest.write_parquet(tmp_path / name)
    (tmp_path / ".t.parquet.tmp").rename(tmp_path / "t.pq")
    shutil.copy(tmp_path / "m.parquet", tmp_path / "preds" / "faces" / "part-9.parquet")
    os.link(tmp_path / "m.parquet", tmp_path / "hard.parquet")
    (tmp_path / "soft.parquet").symlink_to("m.parquet")
    (tmp_path / "list.parquet").write_text("photos/1.jpg\n")
    (tmp_path / "names.txt").write_text("photos/1.jpg\npreds.parquet\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    ("reads", "out"),
    [
        (("--manifest", "m.parquet"), "m.parquet"),
        (("--manifest", "m.parquet"), "photos/../m.parquet"),
        (("--manifest", "m.parquet"), "hard.parquet"),
        (("--manifest", "m.parquet"), "soft.parquet"),
        (("--manifest", "soft.parquet"), "m.parquet"),
        (("--manifest", "x.inputs.parquet"), "x.parquet"),
        (("--manifest", "preds.inputs.parquet", "--path-column", "input"), "preds.parquet"),
        (("--manifest", "preds/faces/part-9.parquet"), "preds"),
        (("--files-from", "list.parquet"), "list.parquet"),
        (("preds.parquet",), "preds.parquet"),
        (("photos", "preds/faces"), "preds"),
    ],
)
def test_what_is_read_is_never_written(folder, reads, out, overwrite):
    """Exit code 2 and a sentence that names the file; every byte stays."""
    before = contents(folder)
    said = motivnet("annotate", *reads, *MODEL, "--out", out, *overwrite, code=2).stderr

    assert "which is read: give --out another name" in said
    assert contents(folder) == before


@pytest.mark.parametrize("reads", [("--files-from", "names.txt"), ("photos/*.jpg", "pre?s.parquet")])
def test_what_a_list_or_a_pattern_holds_is_never_overwritten(folder, reads):
    """It is found when the inputs are listed, and before anything is removed."""
    before = contents(folder)
    said = motivnet("annotate", *reads, *MODEL, "--out", "preds.parquet", "--overwrite", code=2).stderr

    assert "would replace" in said
    assert contents(folder) == before


def test_extend_does_not_rewrite_its_own_manifest(folder):
    """The inputs table of an output as the list of what to add to it."""
    output = Output(
        OutputConfig(path="preds.parquet", extend=True),
        record=RECORD,
        layout=RowLayout(EMOTIONS, 4),
        reads=["preds.inputs.parquet"],
    )
    with pytest.raises(ConfigError, match=r"preds\.inputs\.parquet"), output:
        pass


@pytest.mark.parametrize("out", ["preds.parquet", "preds"])
def test_nothing_is_overwritten_by_nothing(folder, out):
    """With inputs that hold no picture, --overwrite leaves the earlier output as it is."""
    (folder / "empty").mkdir()
    before = contents(folder)
    said = motivnet("annotate", "empty", *MODEL, "--out", out, "--overwrite", code=2).stderr

    assert "no pictures among the inputs" in said
    assert contents(folder) == before


def test_overwrite_leaves_files_that_no_run_wrote(folder):
    """Pictures that somebody put beside the parts."""
    (folder / "preds" / "faces" / "kept.jpg").write_bytes(b"mine")
    run(folder / "preds", folder / "photos", overwrite=True)

    assert (folder / "preds" / "faces" / "kept.jpg").read_bytes() == b"mine"
    assert not (folder / "preds" / "faces" / "part-9.parquet").exists()


@pytest.mark.parametrize("table", ["predictions.parquet", "figures/x.parquet"])
def test_evaluate_keeps_the_table_that_it_reads(tmp_path, monkeypatch, table):
    """A labelled table under the name of what an evaluation writes."""
    monkeypatch.chdir(tmp_path)
    path = Path("out", table)
    path.parent.mkdir(parents=True)
    pl.DataFrame({"path": ["a.jpg"], "label": ["anger"]}).write_parquet(path)
    before = contents(tmp_path)
    said = motivnet(
        "evaluate", "--dataset", "parquet", "--root", path, *MODEL, "--out", "out", "--overwrite", code=2
    ).stderr

    assert "which is read" in said
    assert contents(tmp_path) == before


def test_other_files_may_be_read(folder):
    """What lies beside the output, or is read to be extended, is not held against it."""
    written = output_paths("preds.parquet").written()

    assert not any(map(written.holds, ["photos", "photos/1.jpg", ".", "m.parquet", "nowhere", "s3://b/preds.parquet"]))
    assert written.holds("preds.inputs.parquet")
    assert len(list(Listing(InputConfig(paths=("photos",))))) == 9


def test_urls_are_held_against_an_output_in_a_store():
    written = WrittenPaths("s3://b/p", (), ["s3://b/p.parquet", "s3://b/p/faces"])

    assert written.holds("s3://b/p.parquet")
    assert written.holds("s3://b/p/faces/part-0.parquet")
    assert not written.holds("s3://b/p.parquet.jpg")
