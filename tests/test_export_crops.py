"""Face crops in class folders: the pixels that the network saw, under names that lead back, and what is left out."""

from __future__ import annotations

import csv
import errno
import gc
import json
import logging
import tarfile

import numpy as np
import polars as pl
import pytest
from PIL import Image

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.export import crops
from motivnet_cli.export.crops import write_crops
from motivnet_cli.export.overlay import write_overlays
from motivnet_cli.output.read import read_faces
from motivnet_cli.records import EMOTIONS
from tests.agreement import TOLERANCE
from tests.clips import make_clip, read_number
from tests.exported import VIDEO, face, output
from tests.outputs import rewritten
from tests.pictures import SAMPLE_DATA, photos_of_all_kinds, quadrants
from tests.runs import motivnet

SIZE = (64, 48)
"""Of `quadrants`."""
HOW = {"faces.margin": 0.0, "faces.align": False, "model.recipe": "letterbox"}


def seen(name, emotion="fear", *, box=(10, 10, 30, 30), source="detected", size=SIZE, **more):
    return face(name, emotion=emotion, box=box, size=size, **more) | {"face_source": source, "turn": 0}


def made(folder, rows, inputs=None, archive=None, **settings):
    """An output of which `photos` in the folder holds the inputs: `quadrants`, or what is there.

    Args:
        inputs: What differs in the inputs table.
        archive: The folder of inputs that is to be a TAR file.
    """
    photos = folder / "photos"
    for row in rows:
        path = photos / row["input"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if row["frame"] is None and not path.exists():
            quadrants().save(path, "BMP" if path.suffix == ".bmp" else "PNG")
    about = {row["input"]: {"size_bytes": (photos / row["input"]).stat().st_size} for row in rows}
    about = {name: more | (inputs or {}).get(name, {}) for name, more in about.items()}
    if archive:
        (photos / archive).rename(folder / "members")
        with tarfile.open(photos / archive, "w") as file:
            file.add(folder / "members", "")
        about[archive] = {"kind": "archive", "size_bytes": (photos / archive).stat().st_size}
    return output(folder, rows, about, tracks=False, settings={"inputs.paths": [str(photos)], **HOW} | settings)


def index_of(out):
    with (out / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pixels(path):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """An output of three faces in a picture, one that lies on its side, of a video, of an archive: 10 rows or more."""
    folder = tmp_path_factory.mktemp("annotated")
    photos = photos_of_all_kinds(folder, ((60, 240, 160), (460, 240, 200)))  # one reaches beyond the edge
    boxes = folder / "boxes.csv"
    boxes.write_text(f"path,x1,y1,x2,y2\n{SAMPLE_DATA / 'astronaut.png'},150,40,300,200\nin.png,380,130,560,330\n")
    common = ("--model", "expression-net", "--embeddings", "none", "--quiet", "--out")
    motivnet("annotate", photos, *common, folder / "found.parquet")
    motivnet(
        "annotate", photos, *common, folder / "aligned.parquet", "--align", "--margin", "0.5", "--exclude", "*.mp4"
    )
    motivnet("annotate", "--manifest", boxes, *common, folder / "given.parquet")
    motivnet("annotate", photos / "group.jpg", *common, folder / "whole.parquet", "--faces", "whole")
    return folder


@pytest.mark.parametrize(("run", "tolerance"), [("found", 0), ("given", 0), ("whole", 0), ("aligned", 0.02)])
def test_the_network_says_the_same_of_the_crops(annotated, tmp_path, run, tolerance):
    """Taken whole, each crop gets the probabilities that its row has: they are the pixels that the network saw.

    Aligned crops are rotated to whole pixels, and resized after that, in place of once.
    """
    out = tmp_path / "crops"
    written = json.loads(motivnet("export", "crops", annotated / f"{run}.parquet", "--out", out, "--json").stdout)
    assert written["written"] == str(out)
    again = tmp_path / "again.parquet"
    motivnet("annotate", out, "--faces", "whole", "--model", "expression-net", "--quiet", "--out", again)

    rows = read_faces(annotated / f"{run}.parquet")
    index = pl.read_csv(out / "metadata.csv")
    said = index.join(read_faces(again), left_on="file_name", right_on="input", suffix="_again")
    assert (written["faces"], written["left_out"]) == (len(rows), {})
    assert index["source_input"].to_list() == rows["input"].to_list()
    assert len(said) == len(rows)
    for name in EMOTIONS:
        assert (said[name] - said[f"{name}_again"]).abs().max() <= max(TOLERANCE, tolerance), name


def test_which_faces_those_were(annotated):
    """The runs above hold what they are meant to: sides, turns, edges, frames, members, given boxes, whole pictures."""
    found = read_faces(annotated / "found.parquet")

    assert found.filter(input="deep/turned.png")["turn"].to_list() == [90]
    assert found.filter(pl.col("frame") > 0, input="face.mp4").height >= 2
    assert found.filter(input="some.tar/in.png").select(pl.col("x1").min() < 0.3 * 160).item()
    assert read_faces(annotated / "given.parquet")["face_source"].to_list() == ["given"] * 2
    assert read_faces(annotated / "whole.parquet")["face_source"].to_list() == ["whole"]
    assert read_faces(annotated / "aligned.parquet")["roll"].abs().max() > 5


def test_pixels_worked_out_by_hand(tmp_path):
    """A box of 20 x 30 is a square of 30, and so is one of 20 x 20 with a margin of 0.5; black beyond the picture."""
    rows = [seen("a.png", box=(10, 10, 30, 40)), seen("b.png", box=(50, 20, 70, 40)), seen("c.png", source="whole")]
    write_crops(made(tmp_path, rows), tmp_path / "tight")
    write_crops(made(tmp_path, rows, **{"faces.margin": 0.5}), tmp_path / "wide")
    picture = np.asarray(quadrants())

    tight, beyond, whole = (pixels(tmp_path / "tight" / row["file_name"]) for row in index_of(tmp_path / "tight"))
    assert np.array_equal(tight, picture[10:40, 5:35])
    assert np.array_equal(beyond[:, :14], picture[20:40, 50:64])
    assert (beyond.shape, beyond[:, 14:].max()) == ((20, 20, 3), 0)
    assert np.array_equal(whole, picture)
    wide = pixels(tmp_path / "wide" / index_of(tmp_path / "wide")[1]["file_name"])
    assert np.array_equal(wide[:, :19], picture[15:45, 45:64])
    assert (wide.shape, wide[:, 19:].max()) == ((30, 30, 3), 0)


def test_each_frame_of_a_video_is_its_own(tmp_path):
    """Frames say their numbers, and so do their crops."""
    (tmp_path / "photos").mkdir()
    make_clip(tmp_path / "photos" / "talk.mp4", frames=40, fps=10)
    rows = [seen("talk.mp4", frame=n, time_s=n / 10, source="whole", size=(96, 64)) for n in (0, 10, 20, 30)]
    path = made(tmp_path, rows, {"talk.mp4": VIDEO}, **{"video.fps": 1.0})
    write_crops(path, tmp_path / "crops", where="frame > 0")
    index = index_of(tmp_path / "crops")

    assert [read_number(pixels(tmp_path / "crops" / row["file_name"])) for row in index] == [10, 20, 30]
    assert [row["file_name"][-13:] for row in index] == ["f000010-0.png", "f000020-0.png", "f000030-0.png"]


def test_names_lead_back_and_never_out(tmp_path):
    """Inputs of one stem have names of their own; nothing in a name hides, runs, or leads out of the folder."""
    long = "z" * 200
    names = ["a/x.png", "b/x.png", "b/x.bmp", "..png", ".hid/=1 + 1.png", f"{long}.png", "ö\u202e.png", "-rf.png"]
    rows = [seen(name, number=number) for name in names for number in (0, 1)]
    write_crops(made(tmp_path, rows), tmp_path / "crops", images_from=str(tmp_path / "photos"))  # finds hidden ones
    index = index_of(tmp_path / "crops")

    files = [row["file_name"] for row in index]
    assert sorted(p.relative_to(tmp_path / "crops").as_posix() for p in tmp_path.glob("crops/*/*")) == sorted(files)
    assert len(set(files)) == len(rows)
    assert [row["source_input"].removeprefix("'") for row in index] == [row["input"] for row in rows]
    stems = [file.removeprefix("fear/").rsplit("-", 2) for file in files[::2]]
    assert [stem for stem, _, _ in stems] == ["x", "x", "x", "input", "1_1", "z" * 80, "ö", "rf"]
    assert {digits for _, _, digits in stems} == {"0.png"}
    assert all(len(digest) == 12 for _, digest, _ in stems)
    assert [
        crops._stem_of(name)[:-13] for name in ("../../y.png", "..", "a\\b.png", "C:\\c.png", "s3://d/e.png?f=1")
    ] == [*("y", "input", "b", "c", "e")]


def test_a_capped_set_is_a_random_sample(tmp_path, caplog):
    """N of each class where there are so many, the same ones in any order of the rows, and more hold fewer."""
    rows = [seen(f"{n % 7}.png", "fear" if n < 60 else "anger", number=n) for n in range(64)]
    picked = {}
    for name, order, per_class in (("5", rows, 5), ("again", rows[::-1], 5), ("20", rows, 20)):
        out = tmp_path / name
        result = write_crops(made(tmp_path, order), out, per_class=per_class)
        picked[name] = {(row["source_input"], row["face"]) for row in index_of(out)}
        assert (result.by_emotion["fear"], result.by_emotion["anger"]) == (per_class, min(per_class, 4))

    assert picked["5"] == picked["again"] < picked["20"]
    numbers = sorted(int(number) for _, number in picked["20"])
    assert numbers[0] < 15 < 45 < numbers[-5], "from the beginning to the end"
    assert (
        "fewer faces than --per-class 5: neutral 0, happiness 0, sadness 0, surprise 0, disgust 0, anger 4"
        in caplog.text
    )


def test_a_sample_is_drawn_piece_by_piece(tmp_path, monkeypatch):
    """What is chosen so is what is chosen at once."""
    rows = [seen("a.png", EMOTIONS[n % 3], number=n) for n in range(9000)]  # three batches
    source = crops.Source(made(tmp_path, rows), embeddings=False)
    at_once, _ = crops._chosen(source, 10)
    monkeypatch.setattr(crops, "_MIN_ROWS", 100)

    assert crops._chosen(source, 10)[0].equals(at_once)
    assert len(at_once) == 30


def test_what_cannot_be_cut_is_counted_and_said(tmp_path, caplog):
    """Gone, of another size in bytes, of other pixels in as many bytes, no picture any more, without a box."""
    names = ["gone.png", "longer.png", "other.bmp", "text.png", "here.png", "nowhere.png"]
    rows = [seen(name) for name in names]
    rows[-1] |= {"x1": float("nan")}
    path = made(tmp_path, rows)
    photos = tmp_path / "photos"
    (photos / "gone.png").unlink()
    with (photos / "longer.png").open("ab") as file:
        file.write(b"more")
    quadrants(48, 64).save(photos / "other.bmp")
    (photos / "text.png").write_bytes(b"x" * (photos / "text.png").stat().st_size)
    result = write_crops(path, tmp_path / "crops")

    assert result.faces == len(index_of(tmp_path / "crops")) == 1
    assert result.left_out == {
        "files that were not found": 1,
        "files that have changed": 2,
        "files that cannot be read (not_an_image)": 1,
        "rows without a box": 1,
    }
    assert "faces left out, of files that were not found: 1, such as of 'gone.png'" in caplog.text
    assert "since they have no box: 1" in caplog.text


def test_pictures_that_have_moved(tmp_path, caplog):
    """They are found by --images-from; one that is another there is left out, and with none the way on is said."""
    path = made(tmp_path, [seen("a/x.png"), seen("b/x.png"), seen("c.png")])
    (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"3 faces of .* not found: 3, .*: give the folder .* with --images-from"):
        write_crops(path, tmp_path / "crops")
    assert not list(tmp_path.glob("*crops*"))
    quadrants(20, 20).save(tmp_path / "moved" / "c.png")

    result = write_crops(path, tmp_path / "crops", images_from=str(tmp_path / "moved"))
    assert (result.faces, result.left_out) == (2, {"files that have changed": 1})
    with pytest.raises(ConfigError, match="is no folder"):
        write_crops(path, tmp_path / "others", images_from=str(path))


def test_an_archive_that_has_changed_is_left_out(tmp_path):
    """Its members may have other pixels under the same names; those that were unpacked before are taken."""
    rows = [seen("some.tar/a.png"), seen("b.png")]
    path = made(tmp_path, rows, {"some.tar/a.png": {"archive": "some.tar", "size_bytes": None}}, archive="some.tar")
    assert write_crops(path, tmp_path / "crops").faces == 2
    with (tmp_path / "photos" / "some.tar").open("ab") as file:
        file.write(bytes(10240))

    result = write_crops(path, tmp_path / "crops", overwrite=True)
    assert (result.faces, result.left_out) == (1, {"files that have changed": 1})
    drawn = write_overlays(str(path), str(tmp_path / "seen"))
    assert (drawn.pictures, drawn.absences) == (1, {"changed": 1})
    result = write_crops(path, tmp_path / "unpacked", where="input != 'b.png'", images_from=str(tmp_path / "members"))
    assert (result.faces, result.left_out) == (1, {})


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """It exists: refused; of another program: never replaced; a full disk leaves what was there."""
    path = made(tmp_path, [seen("a.png"), seen("b.png", "anger")])
    out = tmp_path / "crops"
    write_crops(path, out)
    with pytest.raises(ConfigError, match="exists; give --overwrite"):
        write_crops(path, out)
    write_crops(path, out, where="emotion = 'anger'", overwrite=True)
    assert [child.name for child in sorted(out.iterdir())] == [".motivnet-export.json", "anger", "metadata.csv"]

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(ConfigError, match="No space left"):
            write_crops(path, out, overwrite=True)
    assert [child.name for child in sorted(out.iterdir())] == [".motivnet-export.json", "anger", "metadata.csv"]
    assert not list(tmp_path.glob(".crops*"))
    with pytest.raises(ConfigError, match="no export made"):
        write_crops(path, tmp_path / "photos", overwrite=True)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Crops of three emotions, and the emotion of each file."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = [
        seen(f"{n}.png", name, box=(n, n, n + 20, n + 20))
        for n, name in enumerate(("fear", "anger", "fear", "disgust"))
    ]
    write_crops(made(folder, rows), folder / "crops")
    return folder / "crops", {row["file_name"]: row["emotion"] for row in index_of(folder / "crops")}


def test_torchvision_reads_it(labelled):
    folder = pytest.importorskip("torchvision.datasets").ImageFolder(str(labelled[0]))

    assert {path.split("/crops/")[1]: folder.classes[label] for path, label in folder.samples} == labelled[1]
    assert folder[0][0].size == (20, 20)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_datasets_reads_it(labelled, tmp_path):
    """Each picture with its row of the table, of which the emotion becomes a label."""
    datasets = pytest.importorskip("datasets")
    out, emotions = labelled
    rows = datasets.load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path))
    rows = rows.class_encode_column("emotion")
    names = rows.features["emotion"].names

    assert len(rows) == len(emotions)
    for row in rows:
        (file,) = (file for file in emotions if file.split("/")[1].startswith(f"{row['source_input'][0]}-"))
        assert np.array_equal(np.asarray(row["image"]), pixels(out / file))
        assert names[row["emotion"]] == emotions[file]
    del rows
    gc.collect()  # datasets leaves the table open


@pytest.mark.parametrize("how", ["folder", "csv"])
def test_motivnet_reads_it(labelled, how):
    """As class folders, and by its table, of which the boxes in the whole pictures are not taken for boxes in crops."""
    out, emotions = labelled
    found = read_dataset(how, str(out if how == "folder" else out / "metadata.csv"))

    assert {image.path.split("/crops/")[1]: found.classes[image.label] for image in found.images} == emotions
    assert found.faces == "auto"


def _classes(path, *names):
    rewritten(path, lambda faces: faces, {"classes": list(names)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: _classes(path), "names no emotions"),
        (lambda path: _classes(path, "a/b"), "class 'a/b' cannot be the name of a folder"),
        (lambda path: _classes(path, ".."), "cannot be the name of a folder"),
        (lambda path: _classes(path, "anger"), "emotion 'fear', which is none of the model's"),
        (lambda path: rewritten(path, lambda faces: faces, {"settings": None}), "no record of a run"),
        (
            lambda path: rewritten(path, lambda faces: faces, {"settings": {"faces.margin": None}}),
            "how its faces were cut",
        ),
        (
            lambda path: rewritten(path, lambda faces: faces, {"settings": HOW | {"loader.corruption": ["blur", 3]}}),
            "corrup",
        ),
        (
            lambda path: rewritten(path, lambda faces: faces, {"settings": HOW | {"video.stereo": True}}),
            "setting video.stereo, which motivnet .* does not know: use the version that wrote it",
        ),
        (lambda path: rewritten(path, lambda faces: faces.drop("turn")), "no column 'turn', which crops need"),
        (lambda path: rewritten(path, lambda faces: pl.concat([faces, faces])), "a face of 'a.png' is in .* twice"),
        (lambda path: rewritten(path, lambda faces: faces.clear()), "no face with a box"),
        (lambda path: path.with_suffix(".inputs.parquet").unlink(), "no inputs table beside it"),
        (
            lambda path: rewritten(
                path, lambda faces: faces.drop("nose_x"), {"settings": HOW | {"faces.align": True, "inputs.paths": []}}
            ),
            "no column 'nose_x' that says where these are",
        ),
    ],
)
def test_outputs_that_do_not_say_what_the_crops_were(tmp_path, change, message):
    path = made(tmp_path, [seen("a.png")])
    change(path)

    with pytest.raises(ConfigError, match=message):
        write_crops(path, tmp_path / "crops")
    assert not list(tmp_path.glob("*crops*"))


def test_the_command_says_what_it_wrote(tmp_path):
    """On stderr, while stdout has the JSON or nothing; a number of faces below 1 is refused."""
    path = made(tmp_path, [seen("a.png")])
    run = motivnet("export", "crops", path, "--out", tmp_path / "crops")

    assert run.stdout == ""
    assert "faces to cut: 1, from inputs: 1" in run.stderr
    assert run.stderr.endswith("(faces: 1)\n")
    assert logging.getLogger("motivnet_cli").level == logging.NOTSET
    motivnet("export", "crops", path, "--out", tmp_path / "crops", "--per-class", "0", code=2)
