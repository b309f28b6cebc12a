"""Faces of an output, cut anew for a student: the right face for the right target, and what is left out is said."""

from __future__ import annotations

import os
import pickle
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import EMOTIONS, Stopped
from motivnet_cli.training.students import answers
from motivnet_cli.training.targets import crop_faces, crops_in, read_targets, remove_crops
from motivnet_cli.weights.load import load_model
from tests.agreement import TOLERANCE
from tests.outputs import rewritten
from tests.pictures import photos_of_all_kinds
from tests.runs import motivnet

WHOLE = ["0.png", "1.png", "2.png"]


@pytest.fixture(scope="module")
def student():
    return load_model("expression-net")


def annotate(photos, out, *options):
    motivnet("annotate", photos, "--model", "expression-net", "--out", out, *options)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """An output of detected faces: three in a picture, one that lies on its side, of a video, of an archive."""
    folder = tmp_path_factory.mktemp("found")
    photos = photos_of_all_kinds(folder, ((200, 240, 160), (460, 240, 200)))
    annotate(photos, folder / "preds.parquet", "--embeddings", "float32")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An output of three pictures that are faces, and its table."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "photos").mkdir()
    for i, name in enumerate(WHOLE):
        Image.new("RGB", (20 + i, 30), (80 * i, 100, 255 - 80 * i)).save(folder / "photos" / name)
    annotate(folder / "photos", folder / "preds.parquet", "--faces", "whole")
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    """The same under other names of folders, to be changed."""
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "out").mkdir()
    return tmp_path / "copy"


@torch.inference_mode()
def embeddings_of(network, faces):
    """[N, D], the means over faces and their mirror images."""
    pixels = torch.stack([faces[i] for i in range(len(faces))])
    return ((network(pixels)[1] + network(pixels.flip(-1))[1]) / 2).numpy()


def cut(folder, student, out, **options):
    targets = read_targets(str(folder / "preds.parquet"))
    return targets, crop_faces(targets, student, out, **{"images": str(folder / "photos"), "threads": 2} | options)


@pytest.mark.parametrize("where", ["where the run had them", "in a folder that is named"])
def test_every_face_is_cut_as_its_network_saw_it(found, student, tmp_path, where):
    """The network that named the faces says of their new crops what the table says of each, embeddings included."""
    images = None if where == "where the run had them" else str(found / "photos")

    targets, cropped = cut(found, student, tmp_path, images=images)
    faces = crops_in(tmp_path, targets, np.flatnonzero(cropped.is_there), student, classes=student.classes)
    said = answers(student.network, faces, len(faces))

    stored = pl.read_parquet(found / "preds.parquet")
    kinds = {name: len(rows) for (name,), rows in stored.group_by("input")}
    assert kinds["group.jpg"] == 3
    assert kinds["face.mp4"] > 2
    assert kinds["some.tar/in.png"] == 2
    assert stored.filter(input="deep/turned.png")["turn"].to_list() == [90]
    assert cropped.is_there.all()
    assert list(faces.names) == stored["input"].to_list()
    assert abs(said - stored.select(student.classes).to_numpy()).max() < TOLERANCE
    assert abs(said - faces.targets).max() < TOLERANCE
    seen = embeddings_of(student.network, faces)
    assert abs(seen - stored["embedding"].to_numpy()).max() < 10 * TOLERANCE
    distances = abs(seen[:, None] - seen[None]).max(axis=2)
    assert distances[~np.eye(len(seen), dtype=bool)].min() > 100 * TOLERANCE  # no face passes for another


def test_targets_are_in_the_order_of_the_student(whole, student, tmp_path):
    targets, _ = cut(whole, student, tmp_path)
    turned = EMOTIONS[::-1]

    faces = crops_in(tmp_path, targets, np.array([2, 0]), student, classes=turned)

    stored = pl.read_parquet(whole / "preds.parquet").select(turned).to_numpy()
    assert faces.names == ("2.png", "0.png")
    assert np.allclose(faces.targets, stored[[2, 0]], atol=1e-6)


def test_crops_outlive_their_pictures_and_travel_between_processes(copied, student, tmp_path):
    targets, _ = cut(copied, student, tmp_path / "out")
    pixels = crops_in(tmp_path / "out", targets, np.arange(3), student, classes=EMOTIONS)[1]
    shutil.rmtree(copied / "photos")

    _, cropped = cut(copied, student, tmp_path / "out")
    sent = pickle.dumps(crops_in(tmp_path / "out", targets, np.arange(3), student, classes=EMOTIONS))

    assert cropped.is_there.all()
    assert (pickle.loads(sent)[1] == pixels).all()
    assert len(sent) < pixels.numel()
    remove_crops(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_write_may_take_a_part_only(whole, student, tmp_path, monkeypatch):
    write = os.pwrite
    targets, _ = cut(whole, student, tmp_path)
    monkeypatch.setattr("os.pwrite", lambda descriptor, data, offset: write(descriptor, data[:1000], offset))
    (tmp_path / "in parts").mkdir()
    cut(whole, student, tmp_path / "in parts")

    faces, others = (
        crops_in(folder, targets, np.arange(3), student, classes=EMOTIONS)
        for folder in (tmp_path, tmp_path / "in parts")
    )
    assert all((faces.pixels(i) == others.pixels(i)).all() for i in range(3))


def test_another_table_is_cut_anew(copied, student, tmp_path):
    cut(copied, student, tmp_path / "out")
    rewritten(copied / "preds.parquet", lambda faces: faces.with_columns(x2=pl.col("x2") - 5))
    shutil.rmtree(copied / "photos")

    with pytest.raises(ConfigError, match=r"of the 3 faces .* none could be cut"):
        cut(copied, student, tmp_path / "out")


def test_what_is_gone_or_changed_is_left_out_and_said(copied, student, tmp_path):
    photos = copied / "photos"
    (photos / "0.png").unlink()
    size = (photos / "1.png").stat().st_size
    Image.new("RGB", (10, 10)).save(photos / "1.png")
    with (photos / "1.png").open("ab") as file:  # another picture in as many bytes
        file.write(bytes(size - file.tell()))

    _, cropped = cut(copied, student, tmp_path / "out")

    assert cropped.is_there.tolist() == [False, False, True]
    assert sorted(cropped.left_out.remarks) == [
        "faces left out, of files that have changed: 1, such as of '1.png'",
        "faces left out, of files that were not found: 1, such as of '0.png'",
    ]


def test_what_cannot_be_read_is_left_out_by_its_reason(copied, student, tmp_path):
    path = copied / "photos" / "1.png"
    path.write_bytes(bytes(path.stat().st_size))

    _, cropped = cut(copied, student, tmp_path / "out")

    assert cropped.is_there.tolist() == [True, False, True]
    assert cropped.left_out.counts == {"files that cannot be read (not_an_image)": 1}


def test_a_file_of_another_size_has_changed(copied, student, tmp_path):
    with (copied / "photos" / "2.png").open("ab") as file:
        file.write(b"more")

    _, cropped = cut(copied, student, tmp_path / "out")

    assert cropped.left_out.counts == {"files that have changed": 1}


def test_a_stop_leaves_nothing_that_looks_whole(whole, student, tmp_path):
    with pytest.raises(Stopped):
        cut(whole, student, tmp_path, stop=lambda: True)

    _, cropped = cut(whole, student, tmp_path)

    assert cropped.is_there.all()


def test_rows_that_are_no_answers_are_counted(copied):
    def spoil(faces):
        return faces.with_columns(
            neutral=pl.when(pl.col("input") == "0.png").then(float("nan")).otherwise(pl.col("neutral")),
            anger=pl.when(pl.col("input") == "1.png").then(pl.col("anger") + 0.5).otherwise(pl.col("anger")),
        )

    rewritten(copied / "preds.parquet", spoil)

    targets = read_targets(str(copied / "preds.parquet"))

    assert targets.faces["input"].to_list() == ["2.png"]
    assert targets.num_unusable == 2


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"weights_sha256": None}, "weights_sha256 is missing"),
        ({"classes": []}, "holds no emotions"),
        ({"settings": {"loader.corruption": ["blur", 3]}}, r"corrupted pictures \(blur 3\)"),
    ],
)
def test_tables_that_cannot_teach_are_refused(copied, record, complaint):
    rewritten(copied / "preds.parquet", lambda faces: faces, record)

    with pytest.raises(ConfigError, match=complaint):
        read_targets(str(copied / "preds.parquet"))


def test_a_table_alone_is_refused(copied):
    (copied / "preds.inputs.parquet").unlink()

    with pytest.raises(ConfigError, match="no inputs table beside it"):
        read_targets(str(copied / "preds.parquet"))
