"""The output: what is written is read back, in order, once, whatever dies in between."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

import numpy as np
import polars
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motivnet_cli.config import OutputConfig
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.output import commits, ledger
from motivnet_cli.output.read import read_faces, read_inputs, read_record, scan_faces
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import RowLayout, Rows, faces_schema
from motivnet_cli.records import EMOTIONS, Batch, Crop, Cursor, Face, Position, Prediction
from tests.outputs import RECORD, Killed, nine_inputs, run, tables


@pytest.fixture
def photos(tmp_path):
    return nine_inputs(tmp_path / "photos")


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_every_row_comes_back_in_input_order(tmp_path, photos, name):
    """Both forms hold each face once and each input once, in plan order."""
    run(tmp_path / name, photos)
    faces, inputs = tables(tmp_path / name)

    assert inputs["input"].to_list() == [f"{n}.jpg" for n in range(9)]
    assert faces.select("input", "face").rows() == [
        ("1.jpg", 0), ("2.jpg", 0), ("2.jpg", 1), ("4.jpg", 0),
        ("5.jpg", 0), ("5.jpg", 1), ("7.jpg", 0), ("8.jpg", 0), ("8.jpg", 1),
    ]  # fmt: skip
    assert inputs["faces"].sum() == len(faces)


def test_values_survive(tmp_path, photos):
    """Probabilities, the emotion they name, and embeddings are what the prediction said."""
    run(tmp_path / "p.parquet", photos)
    faces, _ = tables(tmp_path / "p.parquet")
    row = faces.row(1, named=True)
    expected = np.random.default_rng(20).normal(size=7)

    assert (row["input"], row["face"]) == ("2.jpg", 0)
    assert row["emotion"] == EMOTIONS[int(expected.argmax())]
    assert row["confidence"] == row[row["emotion"]]
    assert list(row["embedding"]) == [20, 21, 22, 23]
    assert sum(row[name] for name in EMOTIONS) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["set [1] ä/preds.parquet", "set [1] ä/preds"])
def test_place_with_odd_letters(tmp_path, photos, name):
    """Brackets are no pattern, and a file:// URL is the file."""
    run((tmp_path / name).as_uri(), photos)

    assert [len(table) for table in tables(tmp_path / name)] == [9, 9]
    assert [len(table) for table in tables((tmp_path / name).as_uri())] == [9, 9]
    assert len(scan_faces(tmp_path / name).collect()) == 9


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_four_libraries_read_it(tmp_path, photos, name):
    """pyarrow, polars, pandas and DuckDB agree on the rows of both forms, float16 embeddings included."""
    duckdb, pandas = map(pytest.importorskip, ("duckdb", "pandas"))
    run(tmp_path / name, photos, commit_seconds=0)
    place = tmp_path / name if name.endswith(".parquet") else tmp_path / name / "faces"
    pattern = place if place.is_file() else place / "*.parquet"
    emotions = pyarrow.dataset.dataset(place).to_table()["emotion"].to_pylist()

    assert polars.read_parquet(place)["emotion"].to_list() == emotions
    assert pandas.read_parquet(place)["emotion"].tolist() == emotions
    assert [row[0] for row in duckdb.sql(f"select emotion from '{pattern}'").fetchall()] == emotions
    assert duckdb.sql(f"select embedding from '{pattern}'").fetchall()[0][0] == [10, 11, 12, 13]
    assert pandas.read_parquet(place)["embedding"][0].tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize(("embeddings", "kind"), [("float16", "halffloat"), ("float32", "float")])
def test_embedding_type(tmp_path, photos, embeddings, kind):
    """--embeddings chooses the number type; the length is in the type."""
    run(tmp_path / "p.parquet", photos, embeddings=embeddings)
    field = pq.read_schema(tmp_path / "p.parquet").field("embedding")

    assert str(field.type.value_type) == kind
    assert field.type.list_size == 4


@pytest.mark.parametrize(
    "classes",
    [EMOTIONS, tuple(sorted(EMOTIONS)), (*reversed(EMOTIONS), "contempt"), ("contempt", *EMOTIONS), ("fear", "anger")],
)
def test_probabilities_stand_in_one_order(classes):
    """Whatever the model's is: the seven as ever, then others; each value under its own name."""
    layout = RowLayout(classes, 1, "none")
    rows = Rows(layout, layout.schemas({}))
    values = np.arange(1, len(classes) + 1, dtype=np.float32) / 10  # [C]
    crop = Crop(Position(0), "a.jpg", Face((0, 0, 1, 1), "whole"), 0, np.zeros((3, 1, 1), np.uint8))
    rows.add(Batch((crop,), (), Cursor(Position(1))), Prediction(values[None], np.zeros((1, 1), np.float32)))
    faces = rows.take(Position(1))[1]

    expected = [name for name in (*EMOTIONS, "contempt") if name in classes]
    assert [name for name in faces.column_names if name in classes] == expected
    assert [faces[name][0].as_py() for name in classes] == values.tolist()
    assert faces["emotion"][0].as_py() == classes[-1]


def test_no_embeddings(tmp_path, photos):
    """--embeddings none leaves the column out."""
    run(tmp_path / "p.parquet", photos, embeddings="none")

    assert "embedding" not in read_faces(tmp_path / "p.parquet").columns


def test_model_without_emotions_has_no_emotion_columns(tmp_path, photos):
    """A pure encoder writes embeddings only."""
    columns = faces_schema((), 4, "float16").names

    assert "emotion" not in columns
    assert "neutral" not in columns
    assert columns[-1] == "embedding"


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_killed_at_every_file_and_resumed(tmp_path, photos, monkeypatch, name):
    """Dying before any one of its renames, then resumed with another batch size, a run ends as if undisturbed."""
    run(tmp_path / f"whole-{name}", photos, commit_seconds=0)
    whole = [table.rows() for table in tables(tmp_path / f"whole-{name}")]
    rename = Path.replace
    kills = 0
    for kill_at in range(100):
        out = tmp_path / f"{kill_at}-{name}"
        calls = iter(range(1000))

        def dying(self, target, calls=calls, kill_at=kill_at):
            if next(calls) >= kill_at:
                raise Killed
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying)
            try:
                run(out, photos, commit_seconds=0)
            except Killed:
                kills += 1
        run(out, photos, batch_size=3, commit_seconds=0)

        assert [table.rows() for table in tables(out)] == whole
        if kills <= kill_at:
            break
    assert kills > 10


@pytest.mark.parametrize("full_at", range(6))
def test_disk_that_is_full_for_a_moment(tmp_path, photos, monkeypatch, full_at):
    """Rows that could not be written are not taken for done: nothing is committed past them."""
    run(tmp_path / "whole", photos)
    real, calls = commits.durably, iter(range(1000))

    @contextlib.contextmanager
    def full_once(final):
        if final.name.startswith("part-") and next(calls) == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        with real(final) as temporary:
            yield temporary

    with monkeypatch.context() as patch:
        patch.setattr(commits, "durably", full_once)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "out", photos, commit_seconds=0)
    run(tmp_path / "out", photos)

    assert [table.rows() for table in tables(tmp_path / "out")] == [
        table.rows() for table in tables(tmp_path / "whole")
    ]


@pytest.mark.thorough
@settings(max_examples=30)
@given(stops=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=5))
def test_stopped_anywhere_any_number_of_times(tmp_path_factory, stops):
    """Stopped after any inputs, any number of times, with any batch sizes: the same rows."""
    tmp_path = tmp_path_factory.mktemp("stops")
    photos = nine_inputs(tmp_path / "photos")
    for stop_after, batch_size in stops:
        run(tmp_path / "out", photos, batch_size=batch_size, stop_after=stop_after, commit_seconds=0)
    run(tmp_path / "out", photos)
    run(tmp_path / "whole", photos)

    for resumed, whole in zip(tables(tmp_path / "out"), tables(tmp_path / "whole"), strict=True):
        assert resumed.rows() == whole.rows()


def test_units_do_not_leak_into_each_other(tmp_path, photos, monkeypatch):
    """Parts never cross a unit's border, so units can be dealt out."""
    monkeypatch.setattr(ledger, "MAX_UNIT_ITEMS", 2)
    run(tmp_path / "out", photos, batch_size=5)
    parts = sorted((tmp_path / "out" / "inputs").glob("*.parquet"))

    assert [part.stem for part in parts] == [f"part-{unit:06d}-0000-end" for unit in range(5)]
    assert [pq.read_metadata(part).num_rows for part in parts] == [2, 2, 2, 2, 1]


def test_plan_is_frozen(tmp_path, photos):
    """A file that comes after the start is not taken up, one that goes is still answered for."""
    run(tmp_path / "out", photos, stop_after=4, commit_seconds=0)
    (photos / "0a.jpg").write_bytes(b"")
    (photos / "8.jpg").unlink()
    run(tmp_path / "out", photos)

    assert read_inputs(tmp_path / "out")["input"].to_list() == [f"{n}.jpg" for n in range(9)]


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_finished_run_says_so_and_changes_nothing(tmp_path, photos, name):
    """A second start of a finished run finds it finished; not a byte changes."""
    run(tmp_path / name, photos)
    before = snapshot(tmp_path)
    summary = run(tmp_path / name, photos)

    assert summary.inputs == 9
    assert snapshot(tmp_path) == before


def snapshot(folder):
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_single_file_leaves_nothing_else_behind(tmp_path, photos):
    """The working folder of a single file is gone when it is finished."""
    run(tmp_path / "p.parquet", photos)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.inputs.parquet", "p.parquet", "photos"]


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
@pytest.mark.parametrize("stop_after", [4, None])
def test_other_settings_are_refused_by_name(tmp_path, photos, name, stop_after):
    """An output of other settings, finished or not, is refused with what differs, and left as it is."""
    run(tmp_path / name, photos, stop_after=stop_after, commit_seconds=0)
    before = snapshot(tmp_path)
    other = {**RECORD, "settings": {**RECORD["settings"], "model.name": "n"}}

    with pytest.raises(OutputConflictError, match=r"model\.name was 'm', is now 'n'.*--overwrite"):
        run(tmp_path / name, photos, record=other)
    assert snapshot(tmp_path) == before


def test_other_classes_are_refused(tmp_path, photos):
    """A whole network and its encoder alone may be one file: the same name and hash, and other columns."""
    record = RECORD | {"classes": ["neutral", "anger"]}
    run(tmp_path / "p.parquet", photos, record=record)

    with pytest.raises(OutputConflictError, match=r"classes was \['neutral', 'anger'\], is now \[\]"):
        run(tmp_path / "p.parquet", photos, record=record | {"classes": []})


def test_another_schema_is_refused_as_such(tmp_path, photos):
    """No setting of the user's would make the columns those of then."""
    run(tmp_path / "p.parquet", photos, record=RECORD | {"schema_version": 2})
    now = {**RECORD, "schema_version": 3, "settings": {**RECORD["settings"], "output.landmarks": True}}

    with pytest.raises(OutputConflictError, match=r"has schema 2, and this version writes schema 3: .*--overwrite"):
        run(tmp_path / "p.parquet", photos, record=now)


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_overwrite_starts_anew(tmp_path, photos, name):
    """--overwrite replaces another run's output."""
    run(tmp_path / name, photos)
    other = {**RECORD, "settings": {"model.name": "n"}}
    run(tmp_path / name, photos, record=other, overwrite=True, healed=True)

    assert read_record(tmp_path / name)["settings"] == {"model.name": "n"}
    assert read_inputs(tmp_path / name)["status"].to_list().count("failed") == 0


def test_foreign_file_and_folder_are_refused(tmp_path, photos):
    """What motivnet did not write is never replaced unasked; a folder with other files never."""
    polars.DataFrame({"a": [1]}).write_parquet(tmp_path / "p.parquet")

    with pytest.raises(OutputConflictError, match="not written by motivnet"):
        run(tmp_path / "p.parquet", photos)
    with pytest.raises(OutputConflictError, match="holds other files"):
        run(photos, photos, overwrite=True)
    assert len(list(photos.iterdir())) == 9


@pytest.mark.parametrize("name", ["preds.csv", "preds.txt"])
def test_other_endings_are_refused(tmp_path, photos, name):
    """annotate writes Parquet; a name that promises another format is an error."""
    with pytest.raises(ConfigError, match=r"\.parquet"):
        run(tmp_path / name, photos)


def test_second_process_is_refused(tmp_path, photos):
    """Two writers of one output: the second is told, the first goes on."""
    config = OutputConfig(path=str(tmp_path / "p.parquet"))
    with (
        Output(config, record=RECORD, layout=RowLayout(EMOTIONS, 4)),
        pytest.raises(OutputConflictError, match="another process is writing"),
    ):
        run(tmp_path / "p.parquet", photos)
    run(tmp_path / "p.parquet", photos)

    assert len(read_inputs(tmp_path / "p.parquet")) == 9


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_retry_takes_up_only_the_failed(tmp_path, photos, name):
    """--retry-failed gives the rows of a run in which nothing had failed, in the same order."""
    run(tmp_path / name, photos, commit_seconds=0)
    run(tmp_path / name, photos, healed=True, retry_failed=True, batch_size=3)
    run(tmp_path / f"healed-{name}", photos, healed=True)

    for retried, whole in zip(tables(tmp_path / name), tables(tmp_path / f"healed-{name}"), strict=True):
        assert retried.rows() == whole.rows()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_retry_killed_at_every_file(tmp_path, photos, monkeypatch, name):
    """A retry that dies anywhere leaves a whole output, and run again ends as if undisturbed."""
    run(tmp_path / f"healed-{name}", photos, healed=True)
    whole = [table.rows() for table in tables(tmp_path / f"healed-{name}")]
    rename = Path.replace
    for kill_at in range(40):
        out = tmp_path / f"{kill_at}-{name}"
        run(out, photos, commit_seconds=0)
        calls = iter(range(1000))

        def dying(self, target, calls=calls, kill_at=kill_at):
            if next(calls) >= kill_at:
                raise Killed
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying)
            try:
                run(out, photos, healed=True, retry_failed=True)
                died = False
            except Killed:
                died = True
        run(out, photos, healed=True, retry_failed=True)

        assert [table.rows() for table in tables(out)] == whole
        if not died:
            break
    assert kill_at > 5


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_what_an_amendment_could_not_remove_is_none_of_the_next(tmp_path, photos, monkeypatch, name):
    """The rest of a working folder is not taken for work that is done, and goes with the next start."""
    out = tmp_path / name
    run(out, photos, healed=True)
    (photos / "9.jpg").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # as on a disk that fails
        run(out, photos, healed=True, extend=True)
    control = out.with_name(f"{name}.work") if out.suffix else out / ".motivnet"
    assert (control / "amend" / "inputs").exists()
    (photos / "7.jpg").write_bytes(b"changed")
    run(out, photos, extend=True)
    run(tmp_path / "whole", photos, healed=True)

    for amended, whole in zip(tables(out), tables(tmp_path / "whole"), strict=True):
        assert amended.rows() == whole.rows()
    assert not (control / "amend").exists()


def test_renames_are_ended_from_another_folder(tmp_path, photos, monkeypatch):
    """Two tables that a killed process was putting in their place do not depend on where the next one stands."""
    run(tmp_path / "whole.parquet", photos, healed=True)
    monkeypatch.chdir(tmp_path)
    run("p.parquet", photos)
    rename = Path.replace

    def dying(self, target):
        if Path(target).name == "p.inputs.parquet":
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        with pytest.raises(Killed):
            run("p.parquet", photos, healed=True, retry_failed=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(tmp_path / "p.parquet", photos, healed=True)

    for ended, whole in zip(tables(tmp_path / "p.parquet"), tables(tmp_path / "whole.parquet"), strict=True):
        assert ended.rows() == whole.rows()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, OSError), (errno.EIO, OSError), (errno.EACCES, ConfigError)]
)
def test_place_that_cannot_be_made(tmp_path, photos, monkeypatch, number, kind):
    """A fault of the machine passes, with the same command; a place that may not be written is a wrong setting."""

    def refuse(path, **_):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind, match=os.strerror(number)):
        run(tmp_path / "p.parquet", photos)


def test_retry_needs_a_finished_output(tmp_path, photos):
    """--retry-failed on nothing, or on half a run, says what to do first."""
    with pytest.raises(ConfigError, match="needs a finished output"):
        run(tmp_path / "out", photos, retry_failed=True)
    assert not (tmp_path / "out").exists()


def test_failed_input_that_is_gone_stays_failed(tmp_path, photos):
    """A failed input that no longer exists is left as it was."""
    run(tmp_path / "out", photos)
    (photos / "3.jpg").unlink()
    run(tmp_path / "out", photos, healed=True, retry_failed=True)
    statuses = dict(read_inputs(tmp_path / "out").select("input", "status").rows())

    assert statuses["3.jpg"] == "failed"
    assert statuses["6.jpg"] == "ok"


def test_nothing_to_read_leaves_nothing_behind(tmp_path):
    """A folder without pictures is an error that says what was passed over, and makes no output."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_bytes(b"")

    with pytest.raises(ConfigError, match=r"no pictures.*1 \.txt"):
        run(tmp_path / "out", tmp_path / "empty")
    with pytest.raises(ConfigError, match="no pictures"):
        run(tmp_path / "p.parquet", tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_summary_counts_what_is_written(tmp_path, photos):
    """The summary is read off the tables: statuses, faces, emotions, failures by name."""
    summary = run(tmp_path / "p.parquet", photos)
    faces, _ = tables(tmp_path / "p.parquet")

    assert summary.by_status == {"ok": 6, "no_face": 1, "failed": 2}
    assert summary.faces == len(faces) == sum(summary.emotions.values())
    assert summary.emotions["neutral"] == faces["emotion"].to_list().count("neutral")
    assert [report.input for report in summary.failures] == ["3.jpg", "6.jpg"]


def test_record_is_in_every_part(tmp_path, photos):
    """Each file of an output says which run made it."""
    run(tmp_path / "out", photos, commit_seconds=0)

    for part in (tmp_path / "out").rglob("*.parquet"):
        assert json.loads(pq.read_metadata(part).metadata[b"motivnet"])["model"] == "m"


def test_reading_what_is_not_there(tmp_path):
    """Reading a missing output names it."""
    with pytest.raises(ConfigError, match="no motivnet output"):
        read_faces(tmp_path / "none.parquet")


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_extend_adds_what_is_new_and_redoes_what_changed(tmp_path, photos, name):
    """--extend does new and changed inputs only; unchanged rows stay, changed ones are replaced in their place."""
    run(tmp_path / name, photos, commit_seconds=0)
    (photos / "3.jpg").write_bytes(b"longer")
    (photos / "9.jpg").write_bytes(b"")
    (photos / "0.jpg").unlink()
    before = read_faces(tmp_path / name)
    summary = run(tmp_path / name, photos, healed=True, extend=True, commit_seconds=0)
    faces, inputs = tables(tmp_path / name)

    assert inputs["input"].to_list() == [f"{n}.jpg" for n in range(10)]
    assert dict(inputs.select("input", "status").rows())["3.jpg"] == "ok"
    assert dict(inputs.select("input", "status").rows())["6.jpg"] == "failed"
    assert faces.filter(~polars.col("input").is_in(["3.jpg", "9.jpg"])).rows() == before.rows()
    assert faces["input"].to_list() == sorted(faces["input"].to_list())
    assert summary.inputs == 10
    assert run(tmp_path / name, photos, healed=True, extend=True).inputs == 10


def test_extend_takes_other_inputs(tmp_path, photos):
    """The inputs of an extension may be others; all other settings must be the same."""
    run(tmp_path / "out", photos)
    more = tmp_path / "more"
    more.mkdir()
    (more / "95.jpg").write_bytes(b"")
    other = {**RECORD, "settings": {**RECORD["settings"], "inputs": ["/more"]}}
    run(tmp_path / "out", more, record=other, extend=True)
    changed = {**RECORD, "settings": {**RECORD["settings"], "model.name": "n"}}
    with pytest.raises(OutputConflictError, match="model"):
        run(tmp_path / "out", more, record=changed, extend=True)

    assert read_inputs(tmp_path / "out")["input"].to_list() == [*(f"{n}.jpg" for n in range(9)), "95.jpg"]
