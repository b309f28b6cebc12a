"""`motivnet train` from labelled pictures to a model that other commands take, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from itertools import count
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.checkpoint import checkpoint
from typer.testing import CliRunner

pytest.importorskip("lightning")

from motivnet_cli.cli import app
from motivnet_cli.cli.train_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    RecipeOptions,
    ResultOptions,
    StudentOptions,
)
from motivnet_cli.model import MotivNet
from motivnet_cli.training.config import (
    VAL_SHARE,
    AdapterConfig,
    AugmentConfig,
    DataConfig,
    FitConfig,
    OptimConfig,
    StudentConfig,
    TrainConfig,
)
from motivnet_cli.training.module import TrainingModule
from motivnet_cli.training.optim import prepare
from motivnet_cli.training.train import memory_of, require_lightning
from motivnet_cli.weights.networks import load_network, metadata_of
from motivnet_cli.weights.store import Store
from tests.tiny_training import RATES, DrawnFaces, objective, tiny_network
from tests.trained import CLASSES, TINY_SIZES

COMMAND = (
    *("train", "--dataset", "folder", "--root", "faces", "--faces", "whole", "--init", "start.safetensors"),
    *("--out", "my-model", "--epochs", "2", "--batch-size", "8", "--device", "cpu", "--threads", "1"),
    *("--encoder-lr", "1e-3", "--head-lr", "1e-3"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures and a network to start from."""
    folder = tmp_path_factory.mktemp("place")
    network = tiny_network()
    save_file(network.state_dict(), folder / "start.safetensors", metadata=metadata_of(network))
    drawn = DrawnFaces(40, seed=3)
    for index, name in enumerate(drawn.targets.argmax(1)):
        path = folder / "faces" / CLASSES[name] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn[index].permute(1, 2, 0).numpy()).save(path)
    return folder


@pytest.fixture(autouse=True)
def _here(place, tmp_path, monkeypatch):
    """Each test has a folder and a store of its own."""
    for name in ("faces", "start.safetensors"):
        (tmp_path / name).symlink_to(place / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOTIVNET_HOME", str(tmp_path / "store"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _no_report(monkeypatch):
    """Its figures take longer to draw than the network to train."""
    monkeypatch.setattr("motivnet_cli.report.training.write_training", lambda *_: None)


def run(*more, command=COMMAND):
    return CliRunner().invoke(app, [*command, *more], catch_exceptions=False)


def error_of(*more, command=COMMAND):
    result = run(*more, command=command)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


def test_pictures_become_a_model():
    """Its figures are data, and all else is talk; the same command again says the same and trains nothing."""
    first = run("--json")

    assert first.exit_code == 0, first.output
    record = Store().find("my-model").training
    assert json.loads(first.stdout)["training"] == json.loads(json.dumps(record.to_json()))
    assert {"accuracy", "uar", "macro_f1", "auroc_macro", "loss"} <= set(record.validation.figures)
    assert record.classes == tuple(sorted(CLASSES, key=("neutral", "smirk", "yawn").index))
    assert (record.parents[0].name, record.parents[0].role) == ("start.safetensors", "start")
    assert [each["epoch"] for each in record.history] == [1, 2]
    assert record.preparation.whole
    assert record.data.name == "faces (folder)"
    assert record.settings["optim.head_lr"] == 1e-3
    assert {"report.html", "model-card.md", "metrics.json", "history.csv"} <= {
        path.name for path in Path("my-model").iterdir()
    }
    assert "lightning" not in first.stderr.lower()
    assert "GPU" not in first.stderr

    weights = Path(Store().find("my-model").path).stat().st_mtime_ns
    again = run("--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert Path(Store().find("my-model").path).stat().st_mtime_ns == weights


@pytest.mark.usefixtures("_no_report")
def test_a_trained_model_names_faces():
    """It learned from crops, so that it is said where faces are cut out."""
    run()
    annotate = ("annotate", "faces", "--model", "my-model", "--faces", "whole", "--out", "preds.parquet")
    evaluate = ("evaluate", "--dataset", "folder", "--root", "faces", "--predictions", "preds.parquet")
    annotated, scored = run(command=annotate), run(command=evaluate)

    assert annotated.exit_code == 0, annotated.output
    assert scored.exit_code == 0, scored.output
    one = str(next(Path("faces").rglob("*.png")))
    cut = run(command=("annotate", one, "--model", "my-model", "--out", "cut.parquet"))
    remark = "my-model learned from crops of faces, taken whole"
    assert (remark in annotated.stderr, remark in cut.stderr) == (False, True), cut.output


@pytest.mark.usefixtures("_no_report")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)], ids=["TERM", "USR1", "INT"]
)
def test_signals_save_and_the_same_command_goes_on(number, code, monkeypatch):
    """In the middle of the second epoch; the weights are those of a training that nobody stopped."""
    calls, step = count(1), TrainingModule.training_step

    def interrupted(module, batch, index):
        if next(calls) == 6:
            os.kill(os.getpid(), number)
        return step(module, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingModule, "training_step", interrupted)
        stopped = run()
    assert stopped.exit_code == code, stopped.output
    assert "stopped; what is done is kept: run the same command again to continue" in stopped.stderr
    assert next(calls) == 7, "it ended with the step"
    assert Store().find("my-model") is None

    monkeypatch.setattr(TrainingModule, "training_step", lambda *each: next(calls) and step(*each))
    assert run().exit_code == 0
    assert next(calls) == 10, "two of the eight steps were left"
    assert run("--out", "undisturbed").exit_code == 0
    assert Path("my-model/history.csv").read_text() == Path("undisturbed/history.csv").read_text()


@pytest.mark.usefixtures("_no_report")
def test_everything_that_is_off_by_default_can_be_on():
    result = run(
        *("--epochs", "1", "--freeze-encoder", "--class-weights", "balanced", "--label-smoothing", "0.1"),
        *("--flip-augment", "--color-jitter", "0.2", "--erase", "0.25", "--mixup", "0.2", "--ema", "0.9"),
        *("--patience", "1", "--balanced-sampling", "--accumulate", "2", "--precision", "bf16", "--new-head"),
    )
    assert result.exit_code == 0, result.output
    settings = Store().find("my-model").training.settings
    assert settings["augment.mixup"] == 0.2
    assert settings["precision"] == "bf16"


def test_adapters_are_merged(monkeypatch):
    """What is stored has the tensors of a plain network, and says of the validation faces what was validated."""
    said = []
    monkeypatch.setattr("motivnet_cli.report.training.write_training", lambda *what: said.append(what))
    checkpointed = []

    def counted(block, *more, **options):
        checkpointed.append(block)
        return checkpoint(block, *more, **options)

    monkeypatch.setattr("motivnet_cli.model.sapiens.checkpoint", counted)
    result = run("--lora-rank", "2", "--lora-lr", "1e-2", "--epochs", "1", "--checkpoint-activations", "--quiet")

    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert checkpointed
    [(model, judged, _)] = said
    assert model.num_tensors == len(tiny_network().state_dict())
    network = load_network(model.path)
    pixels = [torch.from_numpy(np.array(Image.open(Path("faces") / name))).permute(2, 0, 1) for name in judged.names]
    with torch.no_grad():
        probabilities = network(torch.stack(pixels))[0].softmax(1)
    np.testing.assert_allclose(judged.probabilities, probabilities, atol=1e-5)
    assert (judged.labels == [CLASSES.index(Path(name).parts[0]) for name in judged.names]).all()


@pytest.mark.usefixtures("_no_report")
def test_a_dry_run_trains_nothing():
    shown = run("--dry-run", "--json", "--quiet")

    assert (shown.exit_code, shown.stderr) == (0, ""), shown.output
    plan = json.loads(shown.stdout)
    assert plan["steps_per_epoch"] == 4
    assert sum(train for train, _ in plan["classes"].values()) == 32
    assert plan["trainable"] == sum(each.numel() for each in tiny_network().parameters() if each.requires_grad)
    assert not Path("my-model/checkpoints").exists()
    assert not Path("store").exists()
    assert run().exit_code == 0, "and is in the way of nothing"


@pytest.mark.parametrize("rates", [RATES, dataclasses.replace(RATES, freeze_encoder=True)], ids=["all", "head"])
def test_the_estimate_of_memory_is_what_autograd_keeps(rates):
    """Within a fifth, in a network whose tokens outnumber its classes as they do in the published one."""
    sizes = dataclasses.replace(TINY_SIZES, depth=3, grid_height=16, grid_width=12, decoder_depth=2)
    network = MotivNet(sizes, classes=CLASSES).train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    prepare(network, rates, generator=torch.Generator())
    kept = {}
    own = {each.untyped_storage().data_ptr() for each in network.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits, _ = network(torch.zeros(8, 3, 256, 192, dtype=torch.uint8))
        loss = objective().loss(logits, torch.eye(3)[torch.arange(8) % 3])
    parameters = sum(each.numel() for each in network.parameters())
    trainable = sum(each.numel() for each in network.parameters() if each.requires_grad)

    assert loss.requires_grad
    assert memory_of(network, _config()) - 4 * (parameters + 3 * trainable) == pytest.approx(
        sum(kept.values()), rel=0.2
    )


def _config():
    data = DataConfig(dataset="folder", root="faces")
    return TrainConfig(data=data, init="x", out="x", optim=RATES, fit=FitConfig(batch_size=8))


@pytest.mark.usefixtures("_no_report")
def test_other_settings_in_the_same_folder_are_refused(monkeypatch):
    """Before the end they are named; after it the model is in the store under that name; --overwrite replaces."""
    with monkeypatch.context() as patched:
        patched.setattr(TrainingModule, "training_step", lambda *_: 1 / 0)
        assert run("--epochs", "1").exit_code == 1
    message = error_of("--epochs", "1", "--head-lr", "1e-4")
    assert "(optim.head_lr was 0.001, is now 0.0001); give that training's settings to go on with it" in message
    assert run("--epochs", "1").exit_code == 0

    assert "'my-model' belongs to a training with other settings" in error_of("--epochs", "1", "--seed", "1")
    assert run("--epochs", "1", "--seed", "1", "--overwrite").exit_code == 0
    assert Store().find("my-model").training.settings["seed"] == 1
    Path("my-model").rename("kept")
    assert "has a model 'my-model' already" in error_of("--epochs", "1", "--seed", "1")
    shutil.rmtree("my-model")
    settings = Path("kept").rename("my-model") / "settings.json"
    settings.write_text(settings.read_text().replace('head_lr": 0.001', 'head_lr": 0.0001'))
    assert "has a model 'my-model' already" in error_of("--epochs", "1", "--seed", "1", "--head-lr", "1e-4")


def test_the_options_have_the_defaults_of_the_settings():
    """They are written twice, since a command's help must not import what trains."""
    adapters = RecipeOptions(lora_rank=AdapterConfig().rank).config().adapters
    student = StudentOptions(student="expression-net", targets="t").config(
        ResultOptions(out="x"), FitConfig(), command=""
    )

    assert RecipeOptions().config() == OptimConfig()
    assert adapters == AdapterConfig()
    assert AugmentOptions().config() == AugmentConfig()
    assert FitOptions().config(seed=0) == FitConfig()
    assert DataOptions().val_share == VAL_SHARE
    assert student == StudentConfig(targets="t", out="x")


def test_two_processes_do_not_train_in_one_folder():
    Path("my-model").mkdir()
    with filelock.FileLock("my-model/.training.lock"):
        assert "another process trains in 'my-model'" in error_of()


def test_a_folder_with_other_files_is_refused():
    Path("my-model").mkdir()
    Path("my-model/thesis.txt").write_text("mine")

    assert "the folder 'my-model' holds other files" in error_of()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--init", "sapiens-1b"), "motivnet download-weights sapiens-1b"),
        (("--init", "nothing"), "there is none called 'nothing'"),
        (("--out", "motivnet-1b"), "motivnet-1b is a model of the catalogue"),
        (("--device", "cuda:99"), "device 'cuda:99' was asked for"),
        (("--devices", "some"), "--devices takes a number or all, got 'some'"),
        (("--epochs", "0"), "epochs must lie between 1 and 1e+06, got 0"),
        (("--head", "linear"), "a head has no --dataset, --root, --faces, --init, --encoder-lr, --head-lr, --epochs"),
        (("--by-subject",), "the subject of 40 images is not known"),
        (("--by-subject", "--group-by", "x"), "--by-subject is --group-by subject"),
        (("--lora-lr", "1e-3"), "--lora-alpha and --lora-lr are for --lora-rank"),
        (("--lora-rank", "4", "--freeze-encoder"), "give one of them"),
    ],
)
def test_what_does_not_go_together_is_named(more, message):
    assert message in error_of(*more)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [("--init", "such as --init sapiens-1b"), ("--out", "such as --out my-model"), ("--dataset", "say what to train")],
)
def test_what_is_missing_is_named(left_out, message):
    at = COMMAND.index(left_out)
    assert message in error_of(command=COMMAND[:at] + COMMAND[at + 2 :])


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "lightning" else object())

    with pytest.raises(Exception, match=r"training a network needs lightning: pip install 'motivnet-cli\[train\]'"):
        require_lightning()
