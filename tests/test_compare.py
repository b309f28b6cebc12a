"""Comparisons run what is missing, pair faces by name, go on after a stop, and say what they compared."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from motivnet_cli.cli.terminal import print_result
from motivnet_cli.config import FaceConfig, InputConfig, ModelConfig, OutputConfig, RunConfig
from motivnet_cli.errors import ConfigError, OutputConflictError, WeightsError
from motivnet_cli.evaluation.compare_data import Counts, compare_data
from motivnet_cli.evaluation.compare_models import compare_models
from motivnet_cli.evaluation.embeddings import Unpaired
from motivnet_cli.evaluation.frechet import self_distance_of_rows
from motivnet_cli.evaluation.results import to_json
from motivnet_cli.evaluation.sides import Reading
from motivnet_cli.evaluation.two_samples import deal
from motivnet_cli.output.read import read_faces
from motivnet_cli.report.comparisons import words_on_data, words_on_models
from motivnet_cli.run import annotate
from tests.exported import face, output
from tests.pictures import SAMPLE_DATA, face_photo
from tests.terminals import terminal

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
WHOLE = Reading(faces=FaceConfig(mode="whole"))
SMALL = ModelConfig(name="expression-net")
ENCODER = "pose_encoder."
NAMES = ["tuned.safetensors", "encoder.safetensors"]


def colours(folder, *, n, seed, low=0, high=256):
    """A folder of n small pictures of random blocks, their values between two bounds."""
    folder.mkdir()
    for i, blocks in enumerate(np.random.default_rng(seed).integers(low, high, (n, 6, 6, 3), dtype=np.uint8)):
        Image.fromarray(blocks).resize((48, 48), Image.Resampling.NEAREST).save(folder / f"{i:02d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return InputConfig(paths=(colours(tmp_path_factory.mktemp("images") / "images", n=8, seed=0),))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The golden network with block 1 of its encoder made 1.1 times as large."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.safetensors"
    tensors = load_file(TINY)
    tensors |= {name: 1.1 * values for name, values in tensors.items() if name.startswith(f"{ENCODER}layers.1.")}
    metadata = {"heads": "4", "height": "128", "width": "96"}
    save_file(tensors, path, metadata=metadata)
    encoder = {name: values for name, values in load_file(TINY).items() if name.startswith(ENCODER)}
    save_file(encoder, path.with_name("encoder.safetensors"), metadata=metadata)
    return str(path)


def tiny_pair(tuned):
    """A MotivNet, and the encoder of the golden one."""
    return ModelConfig(weights=tuned), ModelConfig(weights=str(Path(tuned).with_name("encoder.safetensors")))


@pytest.fixture(scope="module")
def models(tmp_path_factory, images, tuned):
    """A comparison of the tuned network with the encoder of the golden one, and its work folder."""
    work = tmp_path_factory.mktemp("models")
    return compare_models(*tiny_pair(tuned), images, work=work, reading=WHOLE, command="motivnet compare"), work


def test_models_are_compared_on_the_same_faces(models):
    """CKA and cosine are those of the two outputs' embeddings, face by face."""
    found, work = models
    x, y = (read_faces(work / name)["embedding"].to_numpy().astype(float) for name in NAMES)
    cosines = np.sum(x * y, axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    x, y = x - x.mean(0), y - y.mean(0)
    cka = np.sum((x.T @ y) ** 2) / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)

    assert found.similarity.n == len(x) == 8
    assert found.similarity.linear_cka == pytest.approx(cka, abs=1e-6)
    assert found.similarity.cosine.mean == pytest.approx(cosines.mean(), abs=1e-6)
    assert 0 < found.similarity.cosine.least < found.similarity.cosine.mean < 1
    assert found.unpaired == Unpaired(0, 0, ())


def test_drift_names_the_layer_that_was_changed(models):
    """Block 1 is a tenth from where it was, all else is where it was; the head is a's alone."""
    drift = models[0].drift
    layers = {layer.layer: layer.relative for layer in drift.layers}

    assert set(layers) == {
        *(f"encoder.{name}" for name in ("patch_embed", "position", "norm")),
        *(f"encoder.blocks.{i}" for i in range(3)),
    }
    assert layers.pop("encoder.blocks.1") == pytest.approx(0.1, abs=1e-6)
    assert set(layers.values()) == {0}
    assert 0 < drift.overall.relative < 0.1
    assert drift.num_only_a > 0
    assert (drift.num_only_b, drift.misshapen) == (0, ())


def test_a_comparison_says_what_it_compared(models):
    """Models, hashes, recipes, terms and the command are in it; it is JSON, and says when faces are few."""
    found, _ = models

    assert [side.model for side in (found.a, found.b)] == NAMES
    assert found.a.weights_sha256 != found.b.weights_sha256
    assert found.a.recipe == "stretch"
    assert found.a.embedding_size == 96
    assert found.a.embeddings == "float32"
    assert found.a.inputs == {"ok": 8}
    assert found.command == "motivnet compare"
    assert "CC BY-NC" in found.b.terms
    assert "8 faces are fewer than an embedding has numbers" in found.remarks[0]
    json.dumps(to_json(found), allow_nan=False)


def test_a_stopped_comparison_goes_on(tmp_path, images, tuned, models):
    """Stopped during the second network, the same call runs only what is missing and finds the same."""
    pair = tiny_pair(tuned)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 16

    stopped = compare_models(*pair, images, work=tmp_path, reading=WHOLE, stop=stop)
    progresses = []
    found = compare_models(*pair, images, work=tmp_path, reading=WHOLE, progress=progresses.append)

    assert stopped is None
    assert 0 < progresses[0].inputs_resumed < 8
    assert progresses[-1].faces == 8 - progresses[0].inputs_resumed
    assert found.similarity.n == 8
    for name in ("linear_cka", "linear_cka_debiased"):
        assert getattr(found.similarity, name) == pytest.approx(getattr(models[0].similarity, name), abs=1e-6)


def test_two_weights_of_one_name(tmp_path, images, tuned):
    """Two checkpoints under one name do not meet in one folder, and the heads count for the drift."""
    other = tmp_path / "other" / Path(tuned).name
    other.parent.mkdir()
    shutil.copyfile(TINY, other)
    a, b = (ModelConfig(weights=str(weights)) for weights in (tuned, other))
    found = compare_models(a, b, images, work=tmp_path / "work", reading=WHOLE)

    assert {path.name for path in (tmp_path / "work").iterdir()} == {"tuned.safetensors", "tuned.safetensors-b"}
    assert found.drift.num_only_a == 0
    assert any(layer.layer.startswith("head.") for layer in found.drift.layers)


def test_networks_of_two_kinds(tmp_path, images):
    """Embeddings of other lengths have CKA but no cosine, and other parameters no drift: it is said."""
    tiny = ModelConfig(weights=str(TINY), precision="fp32")  # by itself it would be bf16 on some CPUs
    found = compare_models(SMALL, tiny, images, work=tmp_path, reading=WHOLE)

    assert 0 < found.similarity.linear_cka <= 1
    assert (found.similarity.cosine, found.drift) == (None, None)
    assert [remark for remark in found.remarks if "no parameters of the same name" in remark]
    assert [remark for remark in found.remarks if "different settings (recipe, flip)" in remark]


def test_faces_are_paired_by_name(tmp_path, tuned):
    """A face that only one run knows is counted and named; the others are compared with themselves."""
    folder = tmp_path / "images"
    images = InputConfig(paths=(colours(folder, n=5, seed=0),))
    a, b = ModelConfig(weights=str(TINY)), tiny_pair(tuned)[1]
    compare_models(a, b, images, work=tmp_path / "work", reading=WHOLE)
    shutil.rmtree(tmp_path / "work" / NAMES[1])
    (folder / "01.png").unlink()
    colours(folder / "02", n=1, seed=2)
    found = compare_models(a, b, images, work=tmp_path / "work", reading=WHOLE)

    assert found.similarity.n == 4
    assert found.unpaired == Unpaired(1, 1, ("01.png", "02/00.png"))
    assert found.similarity.cosine.least > 0.999
    assert found.drift.overall.relative == 0


def test_how_much_is_read_at_a_time_changes_nothing(tmp_path, tuned, monkeypatch):
    """Embeddings read three at a time, with faces left over in the middle of a batch, give what all at once give."""
    folder = tmp_path / "images"
    images = InputConfig(paths=(colours(folder, n=11, seed=0),))
    pair = tiny_pair(tuned)
    compare_models(*pair, images, work=tmp_path / "work", reading=WHOLE)
    shutil.rmtree(tmp_path / "work" / NAMES[1])
    for name in ("00.png", "04.png"):
        (folder / name).unlink()
    at_once = compare_models(*pair, images, work=tmp_path / "work", reading=WHOLE)
    monkeypatch.setattr("motivnet_cli.evaluation.embeddings.BATCH_ROWS", 3)
    by_three = compare_models(*pair, images, work=tmp_path / "work", reading=WHOLE)

    assert by_three.similarity.n == at_once.similarity.n == 9
    for name in ("linear_cka", "linear_cka_debiased"):
        assert getattr(by_three.similarity, name) == pytest.approx(getattr(at_once.similarity, name), abs=1e-9)
    expected = dataclasses.asdict(at_once.similarity.cosine)
    assert dataclasses.asdict(by_three.similarity.cosine) == pytest.approx(expected, abs=1e-9)


def test_missing_weights_show_before_any_run(tmp_path, images):
    """A comparison that cannot end does not begin."""
    b = ModelConfig(name="sapiens-1b", store=str(tmp_path / "store"))
    with pytest.raises(WeightsError, match="sapiens-1b are not here"):
        compare_models(SMALL, b, images, work=tmp_path / "work", reading=WHOLE)

    assert not (tmp_path / "work").exists()


def test_no_faces_to_compare(tmp_path, tuned):
    """Pictures without faces make no comparison."""
    images = InputConfig(paths=(colours(tmp_path / "blocks", n=2, seed=0),))

    with pytest.raises(ConfigError, match="at least 2 faces, and 0 have both"):
        compare_models(SMALL, SMALL, images, work=tmp_path / "work", reading=Reading(faces=FaceConfig(mode="detect")))


# ---- sets of pictures -------------------------------------------------------------------------------------


def predictions(path, folder, *, model=SMALL, embeddings="float32", faces=WHOLE.faces):
    """A finished output on a folder."""
    config = OutputConfig(path=str(path), embeddings=embeddings)
    annotate(RunConfig(inputs=InputConfig(paths=(folder,)), output=config, model=model, faces=faces))
    return str(path)


def test_sets_that_differ_and_sets_that_do_not(tmp_path):
    """Dark pictures lie apart from bright ones, and two draws of one kind do not."""
    dark, bright = (
        colours(tmp_path / name, n=30, seed=1, low=low, high=low + 90) for name, low in (("d", 0), ("b", 160))
    )
    again = colours(tmp_path / "again", n=30, seed=2, high=90)
    apart = compare_data(dark, bright, work=tmp_path / "1", model=SMALL, reading=WHOLE)
    alike = compare_data(dark, InputConfig(paths=(again,)), work=tmp_path / "2", model=SMALL, reading=WHOLE)

    assert apart.distances.mmd_squared.p_value < 0.01
    assert apart.distances.mmd_squared.value > apart.distances.mmd_squared.high
    assert apart.distances.neighbour_overlap.value < 0.2
    assert alike.distances.mmd_squared.p_value > 0.01
    assert alike.distances.neighbour_overlap.value > 0.7
    assert apart.distances.frechet_distance > 1.5 * alike.distances.frechet_distance
    assert apart.distances.n == Counts(30, 30)
    assert (apart.distances.sample.a, apart.distances.sample.permutations, apart.a.model) == (
        30,
        1000,
        "expression-net",
    )
    assert "Frechet distance is then much too large" in apart.remarks[0]
    json.dumps(to_json(apart), allow_nan=False)


def test_frechet_distance_of_outputs_is_that_of_their_embeddings(tmp_path):
    """Read in parts or at once, it is the formula on all embeddings; the pictures need not be there any more."""
    outputs = []
    for i in (0, 1):
        folder = colours(tmp_path / f"p{i}", n=12, seed=i)
        outputs.append(predictions(tmp_path / f"{i}.parquet", folder))
        shutil.rmtree(folder)
    found = compare_data(*outputs, work=tmp_path / "work", model=SMALL)
    x, y = (read_faces(output)["embedding"].to_numpy().astype(float) for output in outputs)
    a, b = np.cov(x.T), np.cov(y.T)
    # tr (AB)^(1/2) is the sum of the roots of the eigenvalues of AB, which are those of the small matrix below.
    centred = [(z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y)]
    root = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a) + np.trace(b) - 2 * root

    assert found.distances.frechet_distance == pytest.approx(expected, rel=1e-6)
    assert not (tmp_path / "work").exists()


def test_a_finished_output_beside_a_folder(tmp_path):
    """One side may be finished predictions, a file or a folder of parts, as long as the network is the same."""
    folder = colours(tmp_path / "p", n=6, seed=0)
    for name in ("done.parquet", "done"):
        done = predictions(tmp_path / name, folder, embeddings="float16")
        found = compare_data(done, folder, work=tmp_path / "work", model=SMALL, reading=WHOLE)

        assert found.distances.frechet_distance < 1e-3
        assert (found.a.embeddings, found.b.embeddings) == ("float16", "float32")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (ModelConfig(weights=str(TINY)), "not of one network .*weights_sha256"),
        (ModelConfig(name="expression-net", flip=False), "not of one network .*model.flip is True .* and False"),
    ],
)
def test_other_networks_are_refused_before_any_run(tmp_path, model, says):
    """Embeddings of two networks have nothing to do with each other."""
    folder = colours(tmp_path / "p", n=2, seed=0)
    output = predictions(tmp_path / "done.parquet", folder)

    with pytest.raises(ConfigError, match=says):
        compare_data(output, folder, work=tmp_path / "work", model=model, reading=WHOLE)
    assert not (tmp_path / "work").exists()
    theirs = predictions(tmp_path / "theirs.parquet", folder, model=model)
    with pytest.raises(ConfigError, match=says):
        compare_data(output, theirs, work=tmp_path / "work", model=SMALL)


def test_outputs_that_cannot_be_compared(tmp_path):
    """Without embeddings, with one face, or not of this tool: the message says which, and what to do."""
    one = colours(tmp_path / "p", n=1, seed=0)
    none = predictions(tmp_path / "none.parquet", one, embeddings="none")
    with pytest.raises(ConfigError, match=r"none.parquet holds no embeddings: make it again without --embeddings none"):
        compare_data(one, none, work=tmp_path / "work", model=SMALL)
    with pytest.raises(ConfigError, match=r"at least 2 faces on each side, and .* holds 1"):
        compare_data(one, one, work=tmp_path / "work", model=SMALL, reading=WHOLE)
    with pytest.raises(ConfigError, match="no motivnet output at"):
        compare_data(str(tmp_path / "nowhere.parquet"), one, work=tmp_path / "work", model=SMALL)


def test_work_of_other_inputs_is_not_taken(tmp_path):
    """A work folder belongs to its inputs."""
    a, b = (colours(tmp_path / name, n=2, seed=0) for name in "ab")
    compare_data(a, b, work=tmp_path / "work", model=SMALL, reading=WHOLE)

    with pytest.raises(OutputConflictError, match=r"inputs.paths"):
        compare_data(b, a, work=tmp_path / "work", model=SMALL, reading=WHOLE)


def test_faces_cut_differently_are_said(tmp_path):
    """Whole pictures beside detected faces are compared, with a remark."""
    (tmp_path / "p").mkdir()
    for name in ("1.jpg", "2.jpg"):
        face_photo(tmp_path / "p" / name, size=(320, 240), faces=((160, 120, 110),))
    shutil.copy(SAMPLE_DATA / "astronaut.png", tmp_path / "p")
    whole = predictions(tmp_path / "whole.parquet", str(tmp_path / "p"))
    found = compare_data(whole, str(tmp_path / "p"), work=tmp_path / "work", model=SMALL)

    assert [remark for remark in found.remarks if "differently (faces.mode)" in remark]
    assert found.distances.n == Counts(3, 3)


# ---- sets, described by hand ------------------------------------------------------------------------------


def described(folder, embeddings, *, names=None, emotions=None):
    """An output with these embeddings [N, D], float16, of one face an input where no names are given."""
    folder.mkdir()
    names = names or [f"{number:05}.png" for number in range(len(embeddings))]
    emotions = emotions or ["happiness"] * len(embeddings)
    rows = zip(names, emotions, embeddings, strict=True)
    faces = [face(name, emotion=emotion) | {"embedding": list(values)} for name, emotion, values in rows]
    return str(output(folder, faces, {name: {} for name in names}))


def embedded(n, seed, d=12, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, size=(n, d)).astype(np.float16).astype(float)


def test_the_distance_of_random_parts_stands_beside_the_distance(tmp_path):
    """Two samples of one kind are as far apart as random parts of them; others are farther."""
    a, b, far = (
        described(tmp_path / name, embedded(n, seed, shift=shift))
        for name, n, seed, shift in (("a", 90, 4, 0), ("b", 60, 5, 0), ("far", 60, 6, 1))
    )
    alike, apart = (compare_data(a, other, work=tmp_path / "work", model=SMALL).distances for other in (b, far))

    itself = alike.frechet_self_distance
    assert 0.5 * itself.mean < alike.frechet_distance < 1.5 * itself.mean
    rows = np.concatenate([read_faces(side)["embedding"].to_numpy().astype(float) for side in (a, b)])
    expected = self_distance_of_rows(rows, deal(60, 90, draws=5, seed=0))
    assert (itself.least, itself.most) == pytest.approx((expected.least, expected.most), rel=1e-6)
    assert itself.draws == 5
    assert apart.frechet_distance > 4 * apart.frechet_self_distance.most
    assert apart.kid.p_value == apart.classifier.accuracy.p_value == pytest.approx(1 / 1001)
    assert alike.kid.p_value > 0.01
    assert apart.classifier.accuracy.value > 0.8


def test_how_much_is_read_at_a_time_changes_no_distance(tmp_path, monkeypatch):
    """Faces of one input that fall into two readings are still of one input, also behind faces that are left out."""
    names = [f"{number // 4}.mp4" for number in range(44)]
    a = embedded(44, 0)
    a[[0, 13, 21]] = np.nan
    outputs = [described(tmp_path / "a", a, names=names), described(tmp_path / "b", embedded(30, 1))]
    at_once = compare_data(*outputs, work=tmp_path / "work", model=SMALL)
    monkeypatch.setattr("motivnet_cli.evaluation.embeddings.BATCH_ROWS", 3)
    by_three = compare_data(*outputs, work=tmp_path / "work", model=SMALL)

    assert (at_once.n_inputs, at_once.distances.n) == (Counts(11, 30), Counts(41, 30))
    assert "3 faces were left out" in at_once.remarks[-1]
    for one, other in zip(numbers_in(to_json(by_three)), numbers_in(to_json(at_once)), strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9)


def numbers_in(value):
    """All numbers in some JSON, in order."""
    if isinstance(value, dict | list):
        return [
            each for member in (value.values() if isinstance(value, dict) else value) for each in numbers_in(member)
        ]
    return [value] if isinstance(value, int | float) else []


def test_each_emotion_is_compared_by_itself(tmp_path):
    """Where only the happy faces differ, only their distances say so; emotions with few faces are named."""
    emotions = ["happiness"] * 60 + ["anger"] * 60 + ["fear"] * 5
    a, b = embedded(125, 0), embedded(125, 1)
    b[:60] += 2
    sides = (
        described(tmp_path / "a", a, emotions=emotions),
        described(tmp_path / "b", b, emotions=[*emotions[:-1], "disgust"]),
    )
    found = compare_data(*sides, work=tmp_path / "work", model=SMALL)

    assert set(found.by_emotion) == {"happiness", "anger"}
    happy, angry = found.by_emotion["happiness"], found.by_emotion["anger"]
    assert happy.n == angry.n == Counts(60, 60)
    assert happy.mmd_squared.p_value < 0.01 < angry.mmd_squared.p_value
    assert happy.frechet_distance > 3 * happy.frechet_self_distance.mean > 3 * angry.frechet_self_distance.least
    assert angry.frechet_distance < 1.5 * angry.frechet_self_distance.mean
    assert found.emotions.n["fear"] == Counts(5, 4)
    assert found.emotions.total_variation == pytest.approx(1 / 125)
    assert "fewer than 50 faces on a side have no distances of their own: disgust (0 and 1), fear (5 and 4)" in str(
        found.remarks
    )
    json.dumps(to_json(found), allow_nan=False)


def test_few_inputs_are_said(tmp_path):
    """Two videos a side can be dealt out in 6 ways, and no p-value is small, however many frames they have."""
    sides = [
        described(tmp_path / name, embedded(60, seed, shift=shift), names=["1.mp4"] * 30 + ["2.mp4"] * 30)
        for name, seed, shift in (("a", 0, 0), ("b", 1, 3))
    ]
    found = compare_data(*sides, work=tmp_path / "work", model=SMALL)

    assert [remark for remark in found.remarks if "2 and 2 inputs" in remark and "in 6 ways" in remark]
    assert found.distances.mmd_squared.p_value > 0.2
    assert found.distances.frechet_self_distance.most == pytest.approx(found.distances.frechet_distance, rel=0.5)


def test_a_set_too_small_for_random_parts_is_said(tmp_path):
    """One video beside many pictures: as many inputs as it has are one picture, which has no covariance."""
    video = described(tmp_path / "a", embedded(3, 0), names=["1.mp4"] * 3)
    found = compare_data(video, described(tmp_path / "b", embedded(60, 1)), work=tmp_path / "work", model=SMALL)

    assert found.distances.frechet_self_distance is None
    assert [remark for remark in found.remarks if remark.startswith("no random part with as many inputs as a side has")]
    assert [remark for remark in found.remarks if remark.endswith("the Frechet distance is then much too large")]
    assert next(line for line in words_on_data(found) if "Frechet" in line).startswith("Frechet distance ")
    json.dumps(to_json(found), allow_nan=False)


def test_a_network_without_emotions(tmp_path):
    """Embeddings alone are compared, without shares of emotions."""
    side = tmp_path / "a"
    side.mkdir()
    faces = [face(f"{n}.png") | {"embedding": list(values)} for n, values in enumerate(embedded(20, 0))]
    path = str(output(side, faces, {row["input"]: {} for row in faces}, classes=()))
    found = compare_data(path, path, work=tmp_path / "work", model=SMALL)

    assert (found.emotions, found.by_emotion) == (None, {})
    assert found.distances.frechet_distance == pytest.approx(0, abs=1e-5)


def test_pictures_on_both_sides_are_said(tmp_path):
    """Faces with equal embeddings are counted; sets that share none have no such remark."""
    a, b = embedded(30, 0), embedded(40, 1)
    apart = [described(tmp_path / name, rows) for name, rows in (("a", a), ("b", b))]
    b[[3, 7, 9]] = a[:3]
    shared = described(tmp_path / "c", b)
    none, three = (
        compare_data(apart[0], other, work=tmp_path / "w", model=SMALL).remarks for other in (apart[1], shared)
    )

    assert "3 of the 40 sampled faces of b have the same embedding as one of a" in str(three)
    assert "same embedding" not in str(none)


def test_words_on_two_sets(tmp_path):
    """Each line says one thing, to four digits: the faces, the distances, the classifier, the emotions, the remarks."""
    emotions = ["happiness"] * 60 + ["fear"] * 2
    sides = [
        described(tmp_path / name, embedded(62, seed, shift=shift), emotions=emotions)
        for name, seed, shift in (("a", 4, 0), ("b", 5, 1))
    ]
    found = compare_data(*sides, work=tmp_path / "work", model=SMALL)
    distances, itself = found.distances, found.distances.frechet_self_distance
    lines = list(words_on_data(found))

    assert lines[0] == "a: 62 faces of 62 inputs; b: 62 faces of 62 inputs; embeddings of expression-net"
    assert lines[1] == (
        f"Frechet distance {distances.frechet_distance:.4g}, where random parts of both are {itself.mean:.4g} apart "
        f"({itself.least:.4g} to {itself.most:.4g})"
    )
    assert lines[2].endswith(f"neighbours {distances.neighbour_overlap.value:.4g} of an even mixture (p = 0.001)")
    assert f"with accuracy {100 * distances.classifier.accuracy.value:.1f} % (chance is 50 %, p = 0.001)" in lines[3]
    assert lines[4] == "emotions: their shares differ by 0.0 % of the faces"
    assert lines[5].startswith("happiness, 60 and 60 faces: Frechet distance")
    assert [line[:5] for line in lines[6:]] == ["note:"] * len(found.remarks)
    with terminal(300) as words:
        print_result(found, words_on_data(found), as_json=False)
    with terminal(300) as asked:
        print_result(found, words_on_data(found), as_json=True)
    assert words.lines == lines
    assert json.loads(asked.text)["n_inputs"] == {"a": 62, "b": 62}


def test_words_on_two_networks(models):
    """The faces, the embeddings and the parameters have a line each."""
    lines = list(words_on_models(models[0]))

    assert lines[0] == "tuned.safetensors and encoder.safetensors on 8 faces"
    assert lines[1].startswith(f"embeddings: debiased linear CKA {models[0].similarity.linear_cka_debiased:.4g} ")
    assert lines[2].startswith(
        f"parameters: {models[0].drift.overall.relative:.4g} of their norm from those of encoder"
    )
    assert lines[3].startswith("note: 8 faces are fewer")
