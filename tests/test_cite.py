"""`motivnet cite`: each sentence is true of the run, and only what was used is cited."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from motivnet_cli import __version__, read_record
from motivnet_cli.export.citation import _ENTRIES, cite
from motivnet_cli.output.tables import METADATA_KEY
from tests import outputs
from tests.clips import face_clip
from tests.outputs import nine_inputs
from tests.pictures import SAMPLE_DATA, face_photo
from tests.runs import motivnet
from tests.trained import tiny_motivnet

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One face; three of 150, 120 and 100 pixels; none; no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    face_photo(folder / "one.jpg")
    face_photo(folder / "three.jpg", size=(900, 400), faces=((150, 200, 150), (450, 200, 120), (750, 200, 100)))
    face_photo(folder / "without.png", faces=())
    (folder / "torn.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    face_clip(path, seconds=3, fps=10, size=(240, 180), faces=((120, 90, 90),))
    return path


@pytest.fixture(scope="module")
def record_of(tmp_path_factory):
    """The record of a run of another model, with other entries."""
    out = tmp_path_factory.mktemp("record") / "p.parquet"
    motivnet("annotate", SAMPLE_DATA / "astronaut.png", "--model", "expression-net", "--out", out, "--quiet")
    record = read_record(out)

    def changed(model, architecture, **changes):
        settings = record["settings"] | {"model.name": model}
        return record | {
            "model": model,
            "architecture": architecture,
            "sources": model,
            "settings": settings,
            **changes,
        }

    return changed


def cited(tmp_path, *arguments):
    out = tmp_path / "p.parquet"
    motivnet("annotate", *arguments, "--model", "expression-net", "--out", out, "--max-failures", "9", "--quiet")
    return cite(out)


def keys(citation):
    return re.findall(r"^@\w+\{(.+),$", "\n".join(citation.bibtex), flags=re.M)


def test_a_run_on_pictures(tmp_path, pictures):
    """Numbers of inputs, failures and faces, detector, crop, network, precision, versions and terms."""
    found = cited(tmp_path, pictures)
    record = read_record(tmp_path / "p.parquet")

    assert found.methods == (
        f"We ran motivnet {__version__} (PyTorch {record['torch']}) on 4 images. "
        "Of these, 1 could not be read and in 1 no face was found or kept. "
        "Faces were detected with a score of at least 0.6 by RetinaFace (MobileNet-0.25 body, trained on WIDER FACE), "
        "which looked again and closer where its first look left a doubt. "
        "There are predictions for 4 detected faces. "
        "Each face was cut out as a square of 1.3 times the height of its box, or of its width where that is more, and "
        "fitted into the network's input with its aspect kept, between bands (recipe letterbox). "
        f"Of each face the model expression-net (SHA-256 of the weights {record['weights_sha256']}) gave probabilities "
        "of 7 classes (neutral, happiness, sadness, surprise, fear, disgust, anger) and an embedding of 256 numbers, "
        "computed in fp32, averaged over the face and its mirror image. "
        "It is FaceExpressionNet of face-api, 323,687 parameters, inside this package. "
        "It comes from face_expression_model of @vladmandic/face-api 1.7.15, converted to safetensors. "
        f"Terms of the weights: {record['terms'].rstrip('.')}."
    )
    assert record["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found.finished
    assert keys(found) == ["motivnet", "faceapi", "deng2020retinaface"]


def test_what_options_change_is_said(tmp_path, pictures):
    """Filters with the faces that each left out, the other detector's look, crop, mirror image and columns."""
    found = cited(
        tmp_path, pictures, "--detection-size", "720", "--min-confidence", "0.7", "--min-face", "90",
        "--max-faces", "1", "--margin", "0.5", "--align", "--no-flip", "--embeddings", "none",
    )  # fmt: skip

    assert "a score of at least 0.7" in found.methods
    assert "which looked at pictures shrunk to at most 720 pixels on the longer side." in found.methods
    assert (
        "Detected faces were left out if they were narrower or lower than 90 pixels (1 face) or more than the 1 "
        "largest of a picture or frame (1 face)." in found.methods
    )
    assert "a square of 1.5 times the height of its box" in found.methods
    assert ", rotated until the eyes were level where the detector saw them, and fitted" in found.methods
    assert "surprise, fear, disgust, anger), computed in fp32. It is" in found.methods


def test_videos(tmp_path, clip, pictures):
    """How frames were sampled, between which times, and whether faces were followed."""
    found = cited(tmp_path, clip, pictures / "one.jpg", "--fps", "2", "--start", "0.5", "--end", "2", "--track")

    assert "on 1 image and 1 video." in found.methods
    assert "Videos were sampled at up to 2 frames per second, from 0.5 s to 2 s." in found.methods
    assert "Within a video, faces were followed" in found.methods
    assert "There are predictions for 4 detected faces." in found.methods  # at 0.5, 1 and 1.5 s, and the photograph's


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--every", "10"], "Videos were sampled at one of every 10 frames."),
        (["--frames", "all", "--end", "0.2"], "Videos were sampled at every frame, from 0 s to 0.2 s."),
        (["--start", "2.5"], "Videos were sampled at up to 1 frame per second, from 2.5 s to the end."),
    ],
)
def test_frames_of_videos(tmp_path, clip, options, words):
    """The three ways to sample; nothing is said of tracks."""
    found = cited(tmp_path, clip, *options)

    assert words in found.methods
    assert "followed" not in found.methods
    assert "image." not in found.methods.partition("Videos")[0]


def test_no_detector_is_named_of_whole_faces(tmp_path):
    """Nothing was detected or cut, and no detector is cited."""
    shutil.copy(SAMPLE_DATA / "astronaut.png", tmp_path)
    found = cited(tmp_path, tmp_path / "astronaut.png", "--faces", "whole")

    assert "Each picture was taken as the crop of one face, without face detection." in found.methods
    assert "There are predictions for 1 whole picture." in found.methods
    assert "Each picture was fitted into the network's input" in found.methods
    assert "cut out" not in found.methods
    assert "RetinaFace" not in found.methods
    assert keys(found) == ["motivnet", "faceapi"]


def test_the_other_detector(tmp_path, pictures):
    """BlazeFace is named and cited, without RetinaFace's looks; small pictures may be whole."""
    found = cited(tmp_path, pictures / "one.jpg", "--detector", "blazeface", "--faces", "auto")

    assert "by BlazeFace (back camera, of MediaPipe)." in found.methods
    assert "Small, nearly square images in which no face was found were taken as crops of one face." in found.methods
    assert keys(found) == ["motivnet", "faceapi", "bazarevsky2019blazeface"]


def test_given_boxes(tmp_path, pictures, clip):
    """No detector is named where every face was given; where some were not, it is named for those."""
    rows = [f"{pictures / 'one.jpg'},,200,120,440,360", f"{clip},3,100,60,220,180"]
    table = tmp_path / "boxes.csv"
    table.write_text("\n".join(["path,frame,x1,y1,x2,y2", *rows, ""]))
    found = cited(tmp_path, "--manifest", table)
    assert "There are predictions for 2 faces of given boxes." in found.methods
    assert "Videos with given boxes were looked at in the frames of these, and others at up to" in found.methods
    assert "RetinaFace" not in found.methods
    assert keys(found) == ["motivnet", "faceapi"]

    table.write_text("\n".join(["path,frame,x1,y1,x2,y2", *rows, f"{pictures / 'three.jpg'},,,,,", ""]))
    found = cited(tmp_path, "--manifest", table, "--overwrite")
    assert "Where no box was given, faces were detected" in found.methods
    assert "There are predictions for 5 faces: 3 detected faces and 2 faces of given boxes." in found.methods
    assert "deng2020retinaface" in keys(found)


def test_archives(tmp_path, pictures):
    """Members are images; what holds them is no image."""
    shutil.make_archive(tmp_path / "pictures", "zip", pictures, "one.jpg")
    (tmp_path / "torn.zip").write_bytes(b"no archive")
    found = cited(tmp_path, tmp_path / "pictures.zip", tmp_path / "torn.zip")

    assert "on 1 image. 1 archive or folder could not be read to the end." in found.methods
    found = cited(tmp_path, tmp_path / "torn.zip", "--overwrite")
    assert "on no image. 1 archive or folder could not be read to the end." in found.methods


@pytest.mark.parametrize("is_file", [True, False])
def test_an_unfinished_output_says_so(tmp_path, is_file, record_of):
    """What is done of a file or folder is described, with the sentence that it is not all."""
    record = record_of("motivnet-1b", "motivnet")
    out = tmp_path / ("half.parquet" if is_file else "half")
    photos = nine_inputs(tmp_path / "photos")
    outputs.run(out, photos, record=record, stop_after=6, commit_seconds=0)

    found = cite(out)
    assert not found.finished
    assert found.methods.startswith("This run has not finished: 5 of 9 inputs are done, and the numbers are of these. ")
    assert "on 5 images. Of these, 1 could not be read and in 1 no face was found or kept." in found.methods

    outputs.run(out, photos, record=record)
    assert cite(out).methods.startswith(f"We ran motivnet {__version__} ")


def test_what_a_former_record_lacks_is_left_out(tmp_path, record_of):
    """A record of few entries gives fewer sentences; settings of an evaluation's corruption give one more."""
    record = record_of("mine", "head")
    for key in ("torch", "architecture", "sources"):
        del record[key]
    record["settings"] |= {"loader.corruption": ["blur", 2]}
    outputs.run(tmp_path / "p.parquet", nine_inputs(tmp_path / "photos"), record=record)
    found = cite(tmp_path / "p.parquet")

    assert found.methods.startswith(f"We ran motivnet {__version__} on 9 images. Of these, 2 could not be read")
    assert "The pictures were corrupted first: blur, severity 2." in found.methods
    assert "Its architecture" not in found.methods
    assert "It comes from" not in found.methods
    assert keys(found) == ["motivnet", "deng2020retinaface"]


def test_a_damaged_record_is_no_fault(tmp_path, record_of):
    """A record that is changed by hand ends the command with a message, and commands no terminal."""
    record = record_of("mine", "head")
    outputs.run(tmp_path / "p.parquet", nine_inputs(tmp_path / "photos"), record=record)
    table = pq.read_table(tmp_path / "p.inputs.parquet")

    def run(code, **changes):
        metadata = {METADATA_KEY: json.dumps(record | changes)}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "p.inputs.parquet")
        return motivnet("cite", tmp_path / "p.parquet", code=code)

    for changes in [{"tool": 3}, {"faces": "all"}, {"classes": None}, {"terms": {}}]:
        assert "the record of the run is damaged" in run(2, **changes).stderr
    assert "\x1b" not in run(0, tool="motivnet \x1b[2J", model="\x1b]0;x\x07").stdout


def test_merged_outputs_and_object_stores(tmp_path, record_of):
    """How many outputs were joined; an output behind a URL is read there."""
    record = record_of("mine", "sapiens")
    for number in range(2):
        photos = nine_inputs(tmp_path / f"photos-{number}")
        settings = record["settings"] | {"inputs.paths": [str(photos)]}
        outputs.run(tmp_path / f"{number}.parquet", photos, record=record | {"settings": settings})
    motivnet(
        "export", "merge", tmp_path / "0.parquet", tmp_path / "1.parquet", "--out", tmp_path / "m.parquet", "--force"
    )
    assert (
        "The predictions were joined from 2 outputs; the settings are the first's."
        in cite(tmp_path / "m.parquet").methods
    )

    url = f"memory://bucket/{tmp_path.name}/p.parquet"
    outputs.run(url, nine_inputs(tmp_path / "photos"), record=record)
    assert " on 9 images. " in cite(url).methods


@pytest.mark.parametrize(
    ("model", "architecture", "sources", "expected"),
    [
        ("motivnet-1b", "motivnet", "its origin", "medicharla2025motivnet khirodkar2024sapiens ridnik2021mldecoder"),
        ("sapiens-0.3b", "sapiens", "its origin", "khirodkar2024sapiens"),
        ("own.pth", "motivnet", "own.pth", "medicharla2025motivnet khirodkar2024sapiens ridnik2021mldecoder"),
        ("mine", "head", "sapiens-1b (encoder), sha256 ab", "khirodkar2024sapiens"),
        ("small", "expression-net", "motivnet-1b (teacher), sha256 ab",
         "faceapi medicharla2025motivnet khirodkar2024sapiens ridnik2021mldecoder"),
        ("mine", "head", "sapiens-1b-of-mine (encoder), sha256 ab", ""),
        ("mine", "head", "my-sapiens-1b (encoder), sha256 ab", ""),
    ],
)  # fmt: skip
def test_models_and_their_parents_are_cited(tmp_path, model, architecture, sources, expected, record_of):
    """The publications of an architecture, and of the models of the catalogue that one was made from."""
    out = tmp_path / "p.parquet"
    record = record_of(model, architecture, sources=sources)
    outputs.run(out, nine_inputs(tmp_path / "photos"), record=record)
    found = cite(out)

    assert keys(found) == ["motivnet", *expected.split(), "deng2020retinaface"]
    assert (f"It comes from {sources}." in found.methods) == (sources != model)
    assert ("It was trained on AffectNet (arXiv 2512.24231)." in found.methods) == (model == "motivnet-1b")


def test_a_checkpoint_of_ones_own(tmp_path, pictures):
    """A real run of MotivNet's architecture from a file: its name, hash and unknown terms, and no publisher."""
    network = tiny_motivnet(("neutral", "smirk"))
    save_file(network.state_dict(), tmp_path / "own.safetensors", metadata={"classes": "neutral,smirk"})
    out = tmp_path / "p.parquet"
    motivnet("annotate", pictures / "one.jpg", "--weights", tmp_path / "own.safetensors", "--out", out, "--quiet")
    found = cite(out)

    assert "Of each face the model own.safetensors (SHA-256 of the weights" in found.methods
    assert "probabilities of 2 classes (neutral, smirk)" in found.methods
    assert "Its architecture is motivnet." in found.methods
    assert "trained on AffectNet" not in found.methods
    assert "comes from" not in found.methods


def test_what_is_no_output_is_refused(tmp_path, pictures):
    """Other people's tables have no record; the message says so, and what to name."""
    pl.DataFrame({"input": ["a.jpg"], "emotion": ["anger"]}).write_parquet(tmp_path / "theirs.parquet")
    (tmp_path / "theirs.csv").write_text("input,emotion\na.jpg,anger\n")

    run = motivnet("cite", tmp_path / "theirs.parquet", code=2)
    assert "theirs.parquet' has no record of a run: name what motivnet annotate wrote with --out" in run.stderr
    assert run.stdout == ""
    assert "theirs.csv' has no record of a run" in motivnet("cite", tmp_path / "theirs.csv", code=2).stderr
    (tmp_path / "metrics.json").write_text("{}")
    assert "is the folder of an evaluation: name its predictions" in motivnet("cite", tmp_path, code=2).stderr
    assert "no motivnet output at 'gone.parquet'" in motivnet("cite", "gone.parquet", code=2).stderr


def test_formats(tmp_path, pictures):
    """Both by default, either alone, or JSON with the record."""
    found = cited(tmp_path, pictures / "one.jpg")
    out = tmp_path / "p.parquet"
    both = "\n\n".join([found.methods, *found.bibtex]) + "\n"

    assert motivnet("cite", out).stdout == both
    assert motivnet("cite", out, "--format", "text").stdout == f"{found.methods}\n"
    assert motivnet("cite", out, "--format", "bibtex").stdout == "\n\n".join(found.bibtex) + "\n"
    content = json.loads(motivnet("cite", out, "--json").stdout)
    assert (content["methods"], content["bibtex"], content["finished"]) == (found.methods, [*found.bibtex], True)
    assert content["record"]["model"] == "expression-net"


def test_entries_are_as_the_repository_says():
    """The tool and MotivNet's paper are those of CITATION.cff; braces are closed, and keys are unique."""
    text = (ROOT / "CITATION.cff").read_text()
    paper = _ENTRIES["motivnet-paper"]

    assert re.search(r"title: \"(.+)\"", text)[1] == re.search(r"title = \{(.+)\}", paper)[1].replace("{", "").replace(
        "}", ""
    )
    names = zip(re.findall(r"family-names: (.+)", text), re.findall(r"given-names: (.+)", text), strict=True)
    assert re.search(r"author = \{(.+)\}", paper)[1] == " and ".join(f"{family}, {given}" for family, given in names)
    assert re.search(r"arXiv:(\S+)", text)[1] in paper
    assert "name: The motivnet contributors" in text
    assert f"version: {__version__}" in text
    assert all(entry.count("{") == entry.count("}") for entry in _ENTRIES.values())
