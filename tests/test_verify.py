"""`motivnet verify`: a whole output passes, and damage of every kind is found by the check that is for it."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
import tarfile

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.errors import InputError
from motivnet_cli.export.source import Source
from motivnet_cli.output.backend import LocalFolder
from motivnet_cli.output.counts import WRITTEN_KEY
from motivnet_cli.output.findings import CHECKS
from motivnet_cli.output.names import part_name
from motivnet_cli.output.read import read_faces
from motivnet_cli.output.tables import ADDED_COLUMNS, METADATA_KEY, SCHEMA_VERSION, TableWriter
from motivnet_cli.output.verify import verify_output
from motivnet_cli.records import EMOTIONS, LANDMARK_COLUMNS
from tests.clips import face_clip
from tests.outputs import assert_whole, nine_inputs
from tests.outputs import run as write
from tests.pictures import face_photo, quadrants
from tests.runs import finish, motivnet

OPTIONS = ("--track", "--fps", "5", "--threads", "2", "--detection-size", "256")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Pictures with two faces, one, none, and a broken one; a video of two people; an archive of three pictures."""
    folder = tmp_path_factory.mktemp("media")
    face_photo(folder / "a.jpg", faces=((160, 240, 160), (480, 240, 160)))
    quadrants().save(folder / "b.png")
    (folder / "c.jpg").write_bytes(b"not a picture")
    face_clip(folder / "d.mp4", size=(480, 240), faces=((120, 120, 90), (320, 120, 110)))
    face_photo(folder / "f.png", size=(320, 240), faces=((160, 120, 110),))
    with tarfile.open(folder / "e.tar", "w") as archive:
        for name in ("f.png", "c.jpg", "a.jpg"):
            archive.add(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def outputs(media, tmp_path_factory):
    """The same run as a file and as a folder of parts."""
    folder = tmp_path_factory.mktemp("outputs")
    for name in ("p.parquet", "p"):
        finish(media, folder / name, *OPTIONS, "--batch-size", "2")
    return folder


@pytest.fixture
def out(outputs, tmp_path):
    """A copy of both, to be damaged."""
    shutil.copytree(outputs, tmp_path, dirs_exist_ok=True)
    return tmp_path


def wrong(path):
    """The checks that find a fault, with the first place of each."""
    return {check.check: check.examples[0] for check in verify_output(path).checks if check.result == "wrong"}


# ---- damage: each takes the folder with both outputs ----------------------------------------------------------


def rewrite(path, change, *, writer=True):
    """Write a table anew with the same record, as the writer does unless it is to be told."""
    table = pq.read_table(path)
    changed = change(table)
    metadata = changed.schema.metadata if changed.schema.metadata is not None else table.schema.metadata
    changed = changed.replace_schema_metadata(metadata)
    if writer is False:
        pq.write_table(changed, path)
        return
    if writer is None:  # one that keeps what the file says of itself
        metadata = {**metadata, WRITTEN_KEY: pq.read_metadata(path).metadata[WRITTEN_KEY]}
        pq.write_table(changed.replace_schema_metadata(metadata), path)
        return
    with TableWriter(path, changed.schema) as rows:
        rows.add(changed)


def with_column(table, name, values):
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def setting(name, row, value, *, of=None):
    """A change of one value: of row `row` among those of the input `of`, if that is given; it may depend on the old."""

    def change(table):
        values = table[name].to_pylist()
        place = row if of is None else [i for i, each in enumerate(table["input"].to_pylist()) if each == of][row]
        values[place] = value(values[place]) if callable(value) else value
        return with_column(table, name, values)

    return change


def faces(change, **how):
    return lambda out: rewrite(out / "p.parquet", change, **how)


def inputs(change, **how):
    return lambda out: rewrite(out / "p.inputs.parquet", change, **how)


def one_by_one(*changes):
    """Several changes of a table."""

    def change(table):
        for each in changes:
            table = each(table)
        return table

    return change


def less_probable(table):
    """The emotion and its confidence are those of a class that is not the most probable."""
    table = setting("emotion", 0, "disgust")(table)
    return setting("confidence", 0, table["disgust"][0].as_py())(table)


def of_older_version(record):
    record["tool"] = "motivnet 0.0.9"
    record["settings"]["version"] = "0.0.9"


def without(*rows):
    return lambda table: table.take([i for i in range(len(table)) if i not in rows])


def without_input(*names):
    return lambda table: table.filter(pa.array([name not in names for name in table["input"].to_pylist()]))


def twice(row):
    return lambda table: table.take(sorted([*range(len(table)), row]))


def swapped(a, b):
    return lambda table: with_column(with_column(table, a, table[b].to_pylist()), b, table[a].to_pylist())


def in_other_order(table):
    return table.select([*table.column_names[1:], table.column_names[0]])


def last_input_first(table):
    names = table["input"].to_pylist()
    return table.take(sorted(range(len(names)), key=lambda i: (names[i] != names[-1], i)))


def with_record(change):
    def changed(table):
        record = json.loads(table.schema.metadata[METADATA_KEY])
        change(record)
        return table.replace_schema_metadata({**table.schema.metadata, METADATA_KEY: json.dumps(record).encode()})

    return changed


def other_classes(record):
    record["classes"] = [*EMOTIONS[:-1], "contempt"]


def in_both(change):
    def damage(out):
        for name in ("p.parquet", "p.inputs.parquet"):
            rewrite(out / name, change)

    return damage


def shorter_embeddings(table):
    kind = pa.list_(pa.float16(), 255)
    values = pa.array([each[:255] for each in table["embedding"].to_pylist()], kind)
    return table.drop_columns("embedding").append_column("embedding", values)


def infinite_embedding(table):
    values = table["embedding"].to_pylist()
    values[1][3] = float("inf")
    return with_column(table, "embedding", values)


def exchanged_tracks(table):
    """From the middle of the video on, the two people have each other's tracks."""
    tracks = table["track"].to_pylist()
    rows = [i for i, track in enumerate(tracks) if track is not None]
    for i in rows[len(rows) // 2 :]:
        tracks[i] = 1 - tracks[i]
    return with_column(table, "track", tracks)


def written_by_polars(out):
    polars.read_parquet(out / "p.parquet").write_parquet(out / "p.parquet")


def overwrite(path, place, content):
    data = bytearray(path.read_bytes())
    data[place : place + len(content)] = content
    path.write_bytes(data)


def flipped(path, place):
    overwrite(path, place, bytes([path.read_bytes()[place] ^ 0x10]))


def flipped_in_pages(out):
    """In the middle of the data of the column of embeddings."""
    chunk = pq.read_metadata(out / "p.parquet").row_group(0).column(len(pq.read_schema(out / "p.parquet")) - 1)
    flipped(out / "p.parquet", chunk.data_page_offset + chunk.total_compressed_size // 2)


def false_statistics(out):
    """The footer says another largest confidence."""
    path = out / "p.parquet"
    data, said = path.read_bytes(), max(pq.read_table(path)["confidence"].to_pylist())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    place = data.rindex(struct.pack("<f", said))
    assert place > footer
    path.write_bytes(data[:footer] + data[footer:].replace(struct.pack("<f", said), struct.pack("<f", said / 2)))


def cut_off(out):
    path = out / "p.parquet"
    path.write_bytes(path.read_bytes()[:-1000])


def parts_of(out, table):
    return sorted((out / "p" / table).glob("part-*"))


def part_with(out, name):
    """The part of the inputs that lists an input."""
    return next(part for part in parts_of(out, "inputs") if name in pq.read_table(part)["input"].to_pylist())


def without_part(out):
    part = part_with(out, "b.png")
    part.unlink()
    (out / "p" / "faces" / part.name).unlink()


def with_part_of_another(out):
    last = parts_of(out, "faces")[-1]
    shutil.copy(last, last.with_name("part-000001-0000.parquet"))


def other_plan(out):
    plan = out / "p" / ".motivnet" / "plan.pq"
    table = pq.read_table(plan)
    names = ["z.png" if name == "b.png" else name for name in table["input"].to_pylist()]
    fields = pa.field("input", pa.string(), nullable=False)
    pq.write_table(table.set_column(0, fields, pa.array(names)), plan, store_schema=False)


def cut_plan(out):
    plan = out / "p" / ".motivnet" / "plan.pq"
    plan.write_bytes(plan.read_bytes()[:-20])


def in_run(change):
    def damage(out):
        about = out / "p" / ".motivnet" / "run.json"
        run = json.loads(about.read_text())
        change(run)
        about.write_text(json.dumps(run))

    return damage


DAMAGE = {
    "a row of faces is gone": ("p.parquet", faces(without(3)), "faces_of_inputs"),
    "a row of faces is there twice": ("p.parquet", faces(twice(3)), "faces_of_inputs"),
    "a face of another input": ("p.parquet", faces(setting("input", 0, "zzz.jpg")), "faces_of_inputs"),
    "faces are in another order": ("p.parquet", faces(last_input_first), "order"),
    "two columns are exchanged": ("p.parquet", faces(swapped("x1", "x2")), "boxes"),
    "two probabilities are exchanged": ("p.parquet", faces(swapped("happiness", "anger")), "emotion"),
    "columns in another order": ("p.parquet", faces(in_other_order), "schema"),
    "a column is gone": ("p.parquet", faces(lambda table: table.drop_columns("y1")), "schema"),
    "a column is of another type": (
        "p.inputs.parquet",
        inputs(lambda table: table.set_column(5, "frames", table["frames"].cast(pa.int32()))),
        "schema",
    ),
    "another emotion": ("p.parquet", faces(setting("emotion", 0, "disgust")), "emotion"),
    "an emotion that is less probable": ("p.parquet", faces(less_probable), "emotion"),
    "another confidence": ("p.parquet", faces(setting("confidence", 2, 0.5)), "emotion"),
    "no emotion": ("p.parquet", faces(setting("emotion", 2, None)), "ranges"),
    "a probability is 0.01 higher": ("p.parquet", faces(setting("fear", 1, lambda p: p + 0.01)), "probabilities"),
    "a probability is NaN": ("p.parquet", faces(setting("fear", 1, float("nan"))), "probabilities"),
    "a box outside": ("p.parquet", faces(setting("x2", 0, 5000.0)), "boxes"),
    "a box inside out": ("p.parquet", faces(setting("y2", 0, 0.0)), "boxes"),
    "a side is NaN": ("p.parquet", faces(setting("y2", 0, float("nan"))), "boxes"),
    "another size of the picture": ("p.parquet", faces(setting("picture_width", 0, 9999)), "boxes"),
    "a score above 1": ("p.parquet", faces(setting("detection_score", 0, 1.5)), "ranges"),
    "a source that there is not": ("p.parquet", faces(setting("face_source", 0, "guessed")), "ranges"),
    "a frame is there twice": ("p.parquet", faces(setting("frame", 2, 0, of="d.mp4")), "frames_and_times"),
    "time goes back": ("p.parquet", faces(setting("time_s", -1, 0.001, of="d.mp4")), "frames_and_times"),
    "a whole frame goes back in time": (
        "p.parquet",
        faces(
            one_by_one(setting("time_s", -1, 0.001, of="d.mp4"), setting("time_s", -2, 0.001, of="d.mp4")),
        ),
        "frames_and_times",
    ),
    "a picture with a frame": ("p.parquet", faces(setting("frame", 0, 3)), "frames_and_times"),
    "another number of a face": ("p.parquet", faces(setting("face", 1, 5)), "face_numbers"),
    "another number of a picture's only face": ("p.parquet", faces(setting("face", 0, 1, of="f.png")), "face_numbers"),
    "faces from right to left": ("p.parquet", faces(setting("x1", 0, 560.0, of="a.jpg")), "face_numbers"),
    "a track twice in a frame": ("p.parquet", faces(setting("track", 1, 0, of="d.mp4")), "tracks"),
    "a track twice in a frame, by an older version": (
        "p.parquet",
        in_both(
            lambda table: with_record(of_older_version)(
                setting("track", 3, 0, of="d.mp4")(table) if "track" in table.column_names else table
            )
        ),
        "tracks",
    ),
    "a track out of nowhere": ("p.parquet", faces(setting("track", -1, 7, of="d.mp4")), "tracks"),
    "two people exchange their tracks": ("p.parquet", faces(exchanged_tracks), "tracks"),
    "a track in a picture": ("p.parquet", faces(setting("track", 0, 0)), "tracks"),
    "embeddings of another length": ("p.parquet", faces(shorter_embeddings), "embeddings"),
    "an infinite embedding": ("p.parquet", faces(infinite_embedding), "embeddings"),
    "an input is there twice": ("p.inputs.parquet", inputs(twice(1)), "inputs_once"),
    "an input is gone": ("p.inputs.parquet", inputs(without_input("b.png"), writer=False), "row_counts"),
    "fewer rows than were written": ("p.inputs.parquet", inputs(without_input("b.png"), writer=None), "row_counts"),
    "an input with faces is gone": ("p.inputs.parquet", inputs(without_input("a.jpg")), "faces_of_inputs"),
    "a member of an archive is gone": ("p.inputs.parquet", inputs(without_input("e.tar/c.jpg")), "archives"),
    "an archive is gone": ("p.inputs.parquet", inputs(without_input("e.tar")), "archives"),
    "another status": ("p.inputs.parquet", inputs(setting("status", 0, "no_face", of="a.jpg")), "status"),
    "failed without an error": ("p.inputs.parquet", inputs(setting("error_type", 0, None, of="c.jpg")), "status"),
    "an error that there is not": ("p.inputs.parquet", inputs(setting("error_type", 0, "odd", of="c.jpg")), "ranges"),
    "another number of faces": ("p.inputs.parquet", inputs(setting("faces", 0, 3, of="a.jpg")), "faces_of_inputs"),
    "a negative size": ("p.inputs.parquet", inputs(setting("size_bytes", 0, -1)), "ranges"),
    "fewer frames than faces": ("p.inputs.parquet", inputs(setting("frames", 0, 2, of="d.mp4")), "faces_of_inputs"),
    "cut off": ("p.parquet", cut_off, "readable"),
    "empty": ("p.parquet", lambda out: (out / "p.parquet").write_bytes(b""), "readable"),
    "a bit of a page": ("p.parquet", flipped_in_pages, "checksums"),
    "a bit of the footer's length": ("p.parquet", lambda out: flipped(out / "p.parquet", -7), "readable"),
    "false statistics": ("p.parquet", false_statistics, "statistics"),
    "other classes in one record": ("p.parquet", faces(with_record(other_classes)), "record"),
    "other classes in both records": ("p.parquet", in_both(with_record(other_classes)), "schema"),
    "another hash in both records": (
        "p.parquet",
        in_both(with_record(lambda record: record.update(weights_sha256="0" * 64))),
        "record",
    ),
    "written by another program": ("p.parquet", written_by_polars, "record"),
    "the inputs are gone": ("p.parquet", lambda out: (out / "p.inputs.parquet").unlink(), "finished"),
    "a temporary file": ("p.parquet", lambda out: (out / ".p.parquet.tmp").write_bytes(b"x"), "leftovers"),
    "a working folder": ("p.parquet", lambda out: (out / "p.parquet.work" / "claims").mkdir(parents=True), "leftovers"),
    "renames that are half done": (
        "p.parquet",
        lambda out: ((out / "p.parquet.work").mkdir(), (out / "p.parquet.work" / "moves.json").write_text("[]")),
        "finished",
    ),
    "a part is gone": ("p", without_part, "plan"),
    "faces of a part are gone": ("p", lambda out: parts_of(out, "faces")[1].unlink(), "parts"),
    "a marker is gone": ("p", lambda out: parts_of(out, "inputs")[1].unlink(), "parts"),
    "a part of another run": ("p", with_part_of_another, "parts"),
    "a file among the parts": ("p", lambda out: shutil.copy(out / "p.parquet", out / "p" / "faces"), "parts"),
    "a temporary part": ("p", lambda out: (out / "p" / "faces" / ".part-000000-0009.parquet.tmp").touch(), "leftovers"),
    "another plan": ("p", other_plan, "plan"),
    "a plan that is cut off": ("p", cut_plan, "plan"),
    "no plan": ("p", lambda out: (out / "p" / ".motivnet" / "plan.pq").unlink(), "plan"),
    "no run": ("p", lambda out: (out / "p" / ".motivnet" / "run.json").write_text("{"), "plan"),
    "a run of another kind": ("p", in_run(lambda run: run.update(unit=0)), "plan"),
    "a run whose record is none": ("p", in_run(lambda run: run.update(record=7)), "plan"),
    "a run with other settings": (
        "p",
        in_run(lambda run: run["record"]["settings"].update({"faces.margin": 1})),
        "record",
    ),
    "an input of a part is gone": (
        "p",
        lambda out: rewrite(part_with(out, "b.png"), without_input("b.png")),
        "plan",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(out, kind):
    """By the check that is for it."""
    name, damage, check = DAMAGE[kind]
    damage(out)

    assert check in wrong(out / name.replace(".inputs", ""))


def test_every_check_has_its_damage():
    assert {check for _, _, check in DAMAGE.values()} == set(CHECKS) - {"sample"}


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_a_whole_output_passes(outputs, name):
    """Each check holds; only what is not there is skipped."""
    found = verify_output(outputs / name)

    assert found.is_whole, wrong(outputs / name)
    assert [check.check for check in found.checks] == list(CHECKS)
    skipped = {check.check for check in found.checks if check.result == "skipped"}
    assert skipped == ({"plan", "sample"} if name == "p.parquet" else {"sample"})
    assert (found.inputs, found.faces) == (9, 3 + 3 + 2 * 10)


@pytest.mark.thorough
def test_bits_are_never_lost_without_a_word(out):
    """Wherever one bit of a file turns over, it is found, or every value is as before; it never ends in a traceback."""
    rng = random.Random(7)
    for name in ("p.parquet", "p.inputs.parquet"):
        path = out / name
        data, table = path.read_bytes(), pq.read_table(path)
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        places = [rng.randrange(footer) for _ in range(40)] + [rng.randrange(footer, len(data)) for _ in range(40)]
        for place in places:
            flipped(path, place)
            assert wrong(out / "p.parquet") or pq.read_table(path).equals(table), place
            path.write_bytes(data)


def test_older_files_have_no_checksums(out):
    """What cannot be checked is said, and is no fault."""
    for name in ("p.parquet", "p.inputs.parquet"):
        older = with_record(lambda record: record.pop("checksums"))
        rewrite(out / name, older, writer=False)
    found = verify_output(out / "p.parquet")

    assert found.is_whole
    skipped = {check.check for check in found.checks if check.result == "skipped"}
    assert skipped == {"row_counts", "checksums", "plan", "sample"}


def of_schema_2(table):
    """As it was written before landmarks, quality and what is left out had columns."""
    old = with_record(lambda record: record.update(schema_version=2) or record["settings"].update({"schema": 2}))(table)
    return old.select([name for name in old.column_names if name not in ADDED_COLUMNS])


def test_an_output_of_schema_2_is_verified_and_read(out):
    """Columns that it did not have are not missed, and a kept column that is called like one of them is as it was."""
    in_both(of_schema_2)(out)
    kept = pa.array([f"{number} %" for number in range(26)])

    def with_kept(table):
        keep = with_record(lambda record: record["settings"].update({"inputs.keep": ["blur"]}))
        table = keep(table)
        return table.add_column(table.schema.get_field_index("embedding"), "blur", kept) if len(table) == 26 else table

    in_both(with_kept)(out)

    assert_whole(out / "p.parquet")
    assert Source(out / "p.parquet").num_rows == 26
    assert "(schema 2)" in motivnet("verify", out / "p.parquet", "--sample", 3, code=2).stderr
    rewrite(out / "p.parquet", lambda table: table.append_column("roll", pa.array([0.0] * 26, pa.float32())))
    assert "schema" in wrong(out / "p.parquet")


@pytest.mark.parametrize(
    ("name", "damages"),
    [
        (
            "p.parquet",
            [
                *(("nose_x", float("nan")), ("left_mouth_y", None), ("turn", 45), ("roll", 181.0), ("yaw", -91.0)),
                *(("eye_distance", float("inf")), ("brightness", 256.0), ("blur", None)),
            ],
        ),
        ("p.inputs.parquet", [("left_out", 1), ("left_out", -1), ("left_out", None), ("left_out_by", "x 0")]),
    ],
)
def test_measures_that_cannot_be_are_found(out, name, damages):
    """Each in a row of its own, and as many faults as rows."""
    rewrite(out / name, one_by_one(*(setting(column, row, value) for row, (column, value) in enumerate(damages))))
    (found,) = (check for check in verify_output(out / "p.parquet").checks if check.check == "ranges")

    assert found.faults == len(damages)


def test_faces_that_the_settings_leave_out_are_found(out):
    """By their size, roll and blur; a face that was given is none of them, but has no landmarks, pose and score."""
    limits = {"min_face": 500, "max_roll": 0.0, "min_sharpness": 1e6}

    def with_limits(record):
        record["faces"] |= limits
        record["settings"] |= {f"faces.{name}": limit for name, limit in limits.items()}

    in_both(with_record(with_limits))(out)
    rewrite(out / "p.parquet", setting("face_source", 0, "given"))
    (found,) = (check for check in verify_output(out / "p.parquet").checks if check.check == "ranges")

    assert found.faults == 3 * 25 + len(LANDMARK_COLUMNS) + 3 + 1


def test_an_output_without_landmarks_is_whole(media, tmp_path):
    """All that goes by them is there."""
    motivnet(
        "annotate", media / "f.png", "--model", "expression-net", "--no-landmarks", "--out", tmp_path / "p.parquet"
    )
    (row,) = read_faces(tmp_path / "p.parquet").to_dicts()

    assert_whole(tmp_path / "p.parquet")
    assert not set(LANDMARK_COLUMNS) & set(row)
    assert None not in (row["roll"], row["yaw"], row["eye_distance"])


def test_files_say_how_many_rows_were_written(outputs):
    for name in ("p.parquet", "p.inputs.parquet"):
        metadata = pq.read_metadata(outputs / name)
        written = json.loads(metadata.metadata[WRITTEN_KEY])
        assert (written["rows"], written["page_checksums"]) == (metadata.num_rows, True)


RECORD = {
    "tool": "motivnet 0",
    "schema_version": SCHEMA_VERSION,
    "model": "m",
    "classes": list(EMOTIONS),
    "embedding_size": 4,
    "weights_sha256": "0" * 64,
    "recipe": "pad",
    "precision": "fp32",
    "faces": {},
    "video": {},
    "settings": {
        "version": "0",
        "schema": SCHEMA_VERSION,
        "model.name": "m",
        "model.weights_sha256": "0" * 64,
        "model.recipe": "pad",
        "model.precision": "fp32",
        "output.embeddings": "float16",
    },
}
"""Of a run that a test makes up."""


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_an_unfinished_output_is_not_whole(tmp_path, name):
    """What is committed of it is looked at, and damage of that is found, too; the end of the run makes it whole."""
    out, photos = tmp_path / name, nine_inputs(tmp_path / "photos")
    write(out, photos, record=RECORD, stop_after=5, commit_seconds=0)
    parts = out if name == "p" else tmp_path / "p.parquet.work"

    assert set(wrong(out)) == {"finished"}
    (parts / "faces" / "part-000000-0009.parquet").write_bytes(b"not committed")
    assert set(wrong(out)) == {"finished"}
    (parts / "faces" / "part-000000-0009.parquet").unlink()
    kept = (parts / "inputs" / "part-000000-0001.parquet").read_bytes()
    rewrite(parts / "inputs" / "part-000000-0001.parquet", setting("input", 0, "z.jpg"))
    assert {"finished", "plan"} <= set(wrong(out))
    (parts / "inputs" / "part-000000-0001.parquet").write_bytes(kept)

    write(out, photos, record=RECORD)
    assert_whole(out)


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_an_amended_output_is_whole(tmp_path, name):
    """The parts of a folder that --retry-failed and --extend wrote have records with other commands and inputs."""
    out, photos = tmp_path / name, nine_inputs(tmp_path / "photos")
    write(out, photos, record={**RECORD, "command": "motivnet annotate photos"})
    for option in ("retry_failed", "extend"):
        (photos / "9.jpg").write_bytes(b"")
        write(out, photos, record={**RECORD, "command": f"motivnet annotate --{option}"}, healed=True, **{option: True})

        assert_whole(out)


def test_a_part_that_is_committed_meanwhile(tmp_path, monkeypatch):
    """Between two looks at the folders: it does not count yet, and is no fault."""
    out = tmp_path / "p"
    write(out, nine_inputs(tmp_path / "photos"), record=RECORD, stop_after=5, commit_seconds=0)
    names = LocalFolder.names

    def then_commit(self, folder):
        found = names(self, folder)
        for table in ("faces", "inputs"):
            last = sorted((out / table).glob("part-*"))[-1]
            shutil.copy(last, last.with_name(part_name(0, int(last.stem[-4:]) + 1)))
        return found

    monkeypatch.setattr(LocalFolder, "names", then_commit)
    assert set(wrong(out)) == {"finished"}


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_an_output_in_a_bucket(s3, tmp_path, name):
    """It is copied and looked at as one on this machine."""
    bucket = s3.new_bucket()
    out = f"s3://{bucket}/{name}"
    write(out, nine_inputs(tmp_path / "photos"), record=RECORD)
    assert_whole(out)

    key = name if name == "p.parquet" else "p/faces/part-000000-0000.parquet"
    whole = s3.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put(bucket, key, whole[:-100])
    assert "readable" in wrong(out)
    s3.put(bucket, key, whole)
    s3.client.delete_object(Bucket=bucket, Key=key.replace("p.parquet", "p.inputs.parquet"))
    assert ("finished" if name == "p.parquet" else "parts") in wrong(out)


def test_exit_codes_and_json(out):
    """0 and 5 as it is whole or not; what is no output is a mistake of usage."""
    told = json.loads(motivnet("verify", out / "p.parquet", "--json").stdout)
    assert told["whole"] is True
    assert {check["result"] for check in told["checks"]} == {"ok", "skipped"}

    faces(setting("emotion", 0, "disgust"))(out)
    run = motivnet("verify", out / "p.parquet", "--json", code=5)
    counts, check = (check for check in json.loads(run.stdout)["checks"] if check["result"] == "wrong")
    assert (counts["check"], check["check"]) == ("row_counts", "emotion")
    assert check["examples"][0]["where"] == "'a.jpg', face 0"
    told = motivnet("verify", out / "p.parquet", code=5).stdout
    assert "not whole" in told
    assert "'a.jpg', face 0: not the most probable one" in told

    assert "no motivnet output" in motivnet("verify", out / "nothing.parquet", code=2).stderr
    polars.DataFrame({"a": [1]}).write_parquet(out / "other.parquet")
    assert "not written by motivnet" in motivnet("verify", out / "other.parquet", code=2).stderr


# ---- rows that are computed again ---------------------------------------------------------------------------


def sampled(out, *options, code=0):
    """The result of the check of that name."""
    told = json.loads(motivnet("verify", out, "--sample", 50, "--json", *options, code=code).stdout)
    return told["checks"][-1]


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_rows_are_computed_again(outputs, name):
    """Pictures, frames and members of archives, and all of them are the same."""
    found = sampled(outputs / name)

    assert found["result"] == "ok", found
    assert found["note"] == "26 rows were computed again (seed 7)"


def test_a_false_row_that_looks_sound_is_found(out):
    """Probabilities, emotion and embedding of two faces are exchanged, which no other check can see."""
    columns = ("emotion", "confidence", *EMOTIONS, "embedding")

    def exchanged(table):
        for name in columns:
            values = table[name].to_pylist()
            values[0], values[-1] = values[-1], values[0]
            table = with_column(table, name, values)
        return table

    rewrite(out / "p.parquet", exchanged)
    assert wrong(out / "p.parquet") == {}
    found = sampled(out / "p.parquet", code=5)

    assert found["result"] == "wrong"
    assert {fault["where"] for fault in found["examples"]} == {"'a.jpg', face 0", "'f.png', face 0"}
    assert "the embedding differs" in found["examples"][0]["what"]


@pytest.mark.parametrize(("more", "num_faults"), [(1e-4, 3), (1e-6, 0)], ids=["false", "of another machine"])
def test_false_measures_are_found(out, more, num_faults):
    """Boxes, landmarks and quality have to be those of the picture, but for the last digits."""
    columns = ["x2", "nose_y", "blur"]
    a_little_more = [setting(name, row, lambda value: value * (1 + more)) for row, name in enumerate(columns)]
    rewrite(out / "p.parquet", one_by_one(*a_little_more))
    found = sampled(out / "p.parquet", code=5 if num_faults else 0)

    assert found["faults"] == num_faults
    assert [fault["what"].split()[0] for fault in found["examples"]] == columns[:num_faults]


def test_a_face_that_fails_in_the_check_is_a_fault(outputs, monkeypatch):
    """It is not counted among the rows that were computed again."""

    def fails(*_):
        raise InputError("bad_prediction", "the detector gives NaN")

    monkeypatch.setattr(Preparer, "find", fails)
    found = sampled(outputs / "p.parquet", code=5)

    assert (found["result"], found["faults"]) == ("wrong", 26)
    assert {fault["what"] for fault in found["examples"]} == {"cannot be read now: the detector gives NaN"}


def test_inputs_that_are_gone_are_no_faults(media, tmp_path):
    """They are counted; where they lie now can be said."""
    moved = shutil.copytree(media, tmp_path / "media")
    finish(moved, tmp_path / "p.parquet", *OPTIONS)
    moved = moved.rename(tmp_path / "moved")
    face_photo(moved / "a.jpg", faces=((200, 240, 160),))

    found = sampled(tmp_path / "p.parquet")
    assert (found["result"], found["note"]) == (
        "skipped",
        "0 rows were computed again (seed 7), 26 could not be: 26 were not found",
    )
    found = sampled(tmp_path / "p.parquet", "--inputs-from", moved)
    assert (found["result"], found["note"]) == (
        "ok",
        "24 rows were computed again (seed 7), 2 could not be: 2 have changed",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["settings"].update(version="0.0.9") or record.update(tool="motivnet 0.0.9"), "0.0.9"),
        (
            lambda record: (
                record["settings"].update({"model.weights_sha256": "0" * 64}) or record.update(weights_sha256="0" * 64)
            ),
            "have the hash",
        ),
    ],
    ids=["version", "weights"],
)
def test_other_versions_and_weights_are_refused(out, change, said):
    in_both(with_record(change))(out)

    assert said in motivnet("verify", out / "p.parquet", "--sample", 3, code=2).stderr


def test_given_boxes_and_pictures_in_tables_are_found_again(media, tmp_path):
    """By the manifest, whatever the names are relative to."""
    rows = [f"{media / 'a.jpg'},100,150,220,320", f"{media / 'a.jpg'},420.5,150.25,540.5,320", f"{media / 'f.png'},,,,"]
    (tmp_path / "m.csv").write_text("\n".join(["path,x1,y1,x2,y2", *rows]) + "\n")
    finish_manifest = ("annotate", "--manifest", tmp_path / "m.csv", "--model", "expression-net", "--out")
    motivnet(*finish_manifest, tmp_path / "m.parquet")
    assert_whole(tmp_path / "m.parquet")

    assert sampled(tmp_path / "m.parquet")["note"] == "3 rows were computed again (seed 7)"


def test_names_as_they_were_given_are_found_again(media, tmp_path, monkeypatch):
    """They are relative to the folder of then, and the record has the whole paths."""
    monkeypatch.chdir(shutil.copytree(media, tmp_path / "media"))
    command = ("annotate", "./a.jpg", "../media/f.png", "e.tar", "--model", "expression-net", "--max-failures", 9)
    motivnet(*command, "--precision", "bf16", "--out", tmp_path / "p.parquet")
    monkeypatch.chdir(tmp_path)
    found = sampled(tmp_path / "p.parquet")

    assert found["result"] == "ok"
    assert found["note"].startswith("6 rows were computed again (seed 7); of the network's numbers only clear emotions")


def test_an_archive_that_is_gone_is_no_fault(media, tmp_path):
    """The plan still names it. Its rows are counted; those of other inputs are computed."""
    moved = shutil.copytree(media, tmp_path / "media")
    finish(moved, tmp_path / "p", *OPTIONS)
    (moved / "e.tar").unlink()
    found = sampled(tmp_path / "p")

    num_gone = read_faces(tmp_path / "p")["input"].str.starts_with("e.tar/").sum()
    assert num_gone > 0
    assert found["result"] == "ok", found
    assert found["note"].endswith(f"(seed 7), {num_gone} could not be: {num_gone} were not found")


def test_importing_scipy_is_for_tracks(outputs, tmp_path):
    """Verifying an output without them needs half a second less."""
    write(tmp_path / "p.parquet", nine_inputs(tmp_path / "photos"), record=RECORD)
    code = (
        "import sys; from motivnet_cli.output.verify import verify_output; "
        "verify_output(sys.argv[1]); print('scipy.optimize' in sys.modules)"
    )
    for path, expected in ((tmp_path / "p.parquet", b"False"), (outputs / "p.parquet", b"True")):
        run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True)
        assert run.stdout.strip() == expected
