"""The command line as people and scripts use it: real processes, exit codes, stdout as data, stderr as talk."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

import motivnet_cli
from motivnet_cli.catalogue import CARDS
from motivnet_cli.cli import app
from motivnet_cli.cli.terminal import importing
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.read import read_faces, read_inputs, read_record
from motivnet_cli.shards import parse_shard
from tests.pictures import SAMPLE_DATA, face_photo, hostile_folder
from tests.runs import at_start
from tests.terminals import on_a_terminal


def motivnet(*arguments):
    """The command in this process: the same parsing, talk and exit codes without another start of torch."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def annotate(*arguments):
    return motivnet("annotate", *arguments, "--model", "expression-net")


def process(*arguments, cwd=None):
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "motivnet_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run on two pictures of one and three faces."""
    folder = tmp_path_factory.mktemp("finished")
    photos = folder / "photos"
    (photos / "sub").mkdir(parents=True)
    shutil.copy(SAMPLE_DATA / "astronaut.png", photos)
    face_photo(photos / "sub" / "group.jpg", size=(900, 400), faces=((150, 200, 150), (450, 200, 120), (750, 200, 100)))
    run = process("annotate", photos, "--out", "p.parquet", "--model", "expression-net", "--json", cwd=folder)
    assert run.returncode == 0, run.stderr
    return folder, photos, run


def test_sample_faces_are_found_and_happy(finished):
    """The astronaut smiles: one row for her portrait, three for the group, left to right, all happiness."""
    folder, _, _ = finished
    faces = read_faces(folder / "p.parquet")

    assert faces.select("input", "face").rows() == [
        ("astronaut.png", 0),
        ("sub/group.jpg", 0),
        ("sub/group.jpg", 1),
        ("sub/group.jpg", 2),
    ]
    assert set(faces["emotion"]) == {"happiness"}
    assert faces["x1"].to_list()[1:] == sorted(faces["x1"].to_list()[1:])
    assert set(faces["face_source"]) == {"detected"}
    assert faces["embedding"].dtype.shape == (256,)


def test_stdout_is_json_and_stderr_is_talk(finished):
    """--json prints one JSON document to stdout; the device, the counts and the paths are said on stderr."""
    _, _, run = finished
    summary = json.loads(run.stdout)

    assert summary["by_status"] == {"ok": 2}
    assert summary["faces"] == summary["emotions"]["happiness"] == 4
    assert summary["device"] == "cpu"
    assert summary["outputs"] == ["p.parquet", "p.inputs.parquet"]
    assert summary["seconds"] > 0
    assert "expression-net on cpu" in run.stderr
    assert "4 happiness" in run.stderr


def test_no_control_characters_in_a_pipe(finished):
    """Neither colour nor bars go into a pipe."""
    _, _, run = finished

    assert not {"\x1b", "\r"} & set(run.stderr + run.stdout)


def test_record_says_how_it_was_made(finished):
    """The output names the tool, model, hash, terms, recipe, precision, face settings and the command."""
    folder, photos, _ = finished
    record = read_record(folder / "p.parquet")

    assert record["model"] == "expression-net"
    assert len(record["weights_sha256"]) == 64
    assert "MIT" in record["terms"]
    assert (record["recipe"], record["precision"]) == ("letterbox", "fp32")
    assert record["faces"]["detector"] == "retinaface"
    assert record["command"].startswith(f"motivnet annotate {photos}")


def test_finished_run_does_nothing(finished):
    """The same command again says that all is done, and exits 0."""
    folder, photos, _ = finished
    before = (folder / "p.parquet").stat().st_mtime_ns
    run = annotate(photos, "--out", folder / "p.parquet")

    assert run.exit_code == 0
    assert "already finished" in run.stderr
    assert (folder / "p.parquet").stat().st_mtime_ns == before


def test_other_settings_exit_2(finished):
    """Another face mode on the same output is refused, naming it."""
    folder, photos, _ = finished
    run = annotate(photos, "--out", folder / "p.parquet", "--faces", "whole")

    assert run.exit_code == 2
    assert "faces.mode was 'detect', is now 'whole'" in run.stderr
    assert "--overwrite" in run.stderr


def test_overwrite(finished, tmp_path):
    """--overwrite replaces it; --faces whole takes every picture as one face."""
    _, photos, _ = finished
    annotate(photos, "--out", tmp_path / "p.parquet")
    run = annotate(photos, "--out", tmp_path / "p.parquet", "--faces", "whole", "--overwrite")
    faces = read_faces(tmp_path / "p.parquet")

    assert run.exit_code == 0
    assert faces.select("face_source", "x1", "y1", "x2", "y2", "detection_score").row(0) == (
        "whole", 0.0, 0.0, 512.0, 512.0, None,
    )  # fmt: skip


def test_hostile_folder(tmp_path):
    """Every good picture is annotated, every bad one listed with its reason; exit 3, or 0 when allowed."""
    bad = hostile_folder(tmp_path / "hostile")
    run = annotate(tmp_path / "hostile", "--faces", "whole", "--out", tmp_path / "p.parquet")
    inputs = read_inputs(tmp_path / "p.parquet")
    failed = {row["input"]: row["error_type"] for row in inputs.iter_rows(named=True) if row["status"] == "failed"}
    expected = {os.fsencode(name).decode("utf-8", "backslashreplace"): kind for name, kind in bad.items()}

    assert run.exit_code == 3, run.stderr
    assert failed == expected
    assert inputs.filter(inputs["status"] == "failed")["error"].null_count() == 0
    assert inputs["status"].to_list().count("ok") == 8
    assert inputs["input"].n_unique() == len(inputs)
    assert "Traceback" not in run.stderr
    again = annotate(
        tmp_path / "hostile", "--faces", "whole", "--out", tmp_path / "p.parquet", "--max-failures", "100%"
    )
    assert again.exit_code == 0


def test_max_failures(tmp_path):
    """One failure of two: allowed by 1 and by 50%, not by 0 or 40%."""
    face_photo(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"text")
    codes = {
        allowed: annotate(tmp_path, "--out", tmp_path / "p.parquet", "--max-failures", allowed).exit_code
        for allowed in ("0", "40%", "50%", "1")
    }

    assert codes == {"0": 3, "40%": 3, "50%": 0, "1": 0}


def test_retry_failed(tmp_path):
    """--retry-failed reads only the failed input again."""
    photos = tmp_path / "photos"
    photos.mkdir()
    face_photo(photos / "a.png")
    (photos / "b.png").write_bytes(b"text")
    annotate(photos, "--out", tmp_path / "p.parquet")
    face_photo(photos / "b.png")
    run = annotate(photos, "--out", tmp_path / "p.parquet", "--retry-failed", "--json")

    assert run.exit_code == 0, run.stderr
    assert json.loads(run.stdout)["faces_predicted"] == 1
    assert read_inputs(tmp_path / "p.parquet")["status"].to_list() == ["ok", "ok"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no such file or folder: 'nowhere'"),
        ([SAMPLE_DATA, "--model", "resnet"], "no model is named 'resnet'; known models: motivnet-1b, sapiens-0.3b, "),
        ([SAMPLE_DATA, "--model", "motivnet-1"], "(see `motivnet models`); did you mean motivnet-1b?"),
        ([SAMPLE_DATA, "--min-confidence", "0"], "min-confidence must be more than 0 and less than 1, got 0.0"),
        ([SAMPLE_DATA, "--commit-seconds", "nan"], "commit-seconds must be 0 or more, got nan"),
        ([SAMPLE_DATA, "--batch-size", "0"], "batch size must be at least 1"),
        ([SAMPLE_DATA, "--batch-size", "many"], "takes a whole number or auto, got 'many'"),
        ([SAMPLE_DATA, "--device", "tpu"], "device must be auto, cpu, mps, cuda or cuda:N, got 'tpu'"),
        ([SAMPLE_DATA, "--max-failures", "some"], "a number or a percentage"),
        ([SAMPLE_DATA, "--max-failures", "-1"], "--max-failures must be 0 or more, and at most 100%, got '-1'"),
        ([SAMPLE_DATA, "--max-failures", "101%"], "--max-failures must be 0 or more, and at most 100%, got '101%'"),
        ([SAMPLE_DATA, "--fps", "0"], "fps must be more than 0"),
        ([SAMPLE_DATA, "--start", "nan"], "--start and --end take seconds"),
        ([SAMPLE_DATA, "--end", "nan"], "got 0 to nan"),
        ([SAMPLE_DATA, "--margin", "-1"], "margin must be between 0 and 4"),
        ([SAMPLE_DATA, "--recipe", "pad"], "expression-net has no input recipe 'pad'"),
        ([SAMPLE_DATA, "--faces", "some"], "--faces takes detect, whole or auto, got 'some'"),
        ([SAMPLE_DATA, "--faces", "largest"], "--faces largest is now --max-faces 1"),
        ([SAMPLE_DATA, "--faces", "3"], "--faces 3 is now --max-faces 3"),
        ([SAMPLE_DATA, "--out", "preds.csv"], ".parquet"),
        ([SAMPLE_DATA, "--retry-failed"], "needs a finished output"),
        ([SAMPLE_DATA, "--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_usage_exits_2(tmp_path, monkeypatch, arguments, said):
    """Every mistake ends with exit 2 and a sentence that names the value; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    run = motivnet("annotate", "--out", "p.parquet", "--model", "expression-net", *arguments)

    assert run.exit_code == 2
    assert said in " ".join(run.stderr.replace("│", " ").split())
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("evaluate --dataset rafbd", "rafdb"),
        ("export predictions p.parquet --to cvs", "csv"),
        ("evaluate --dataset rafdb --root . --corrupt nose", "noise"),
    ],
)
def test_names_that_are_mistyped(line, meant):
    """The list of names is long: the message ends in what was probably meant."""
    assert f"; did you mean {meant}?" in motivnet(*line.split()).stderr


def test_a_command_without_a_way_to_stop_says_that_it_was_stopped(monkeypatch):
    """Ctrl-C in the middle of an export."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("motivnet_cli.export.predictions.export_predictions", interrupted)
    run = motivnet("export", "predictions", "p.parquet", "--to", "csv")

    assert (run.exit_code, run.stderr.splitlines()[-1]) == (130, "stopped")


def test_no_weights_says_both_ways_on(tmp_path):
    """Without MotivNet's weights and without --model, nothing runs in its place."""
    run = motivnet("annotate", SAMPLE_DATA, "--out", tmp_path / "p.parquet")

    assert run.exit_code == 2
    assert "--weights" in run.stderr
    assert "--model expression-net" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_is_an_error(tmp_path):
    """--device cuda without one is an error, never a silent fall to the CPU."""
    run = annotate(SAMPLE_DATA, "--out", tmp_path / "p.parquet", "--device", "cuda")

    assert run.exit_code == 2
    assert "torch sees 0 CUDA devices" in run.stderr


def test_a_quiet_command_does_not_silence_the_process(tmp_path, caplog):
    """What a program logs after a command that it ran within itself is not cut off."""
    annotate(SAMPLE_DATA, "--out", tmp_path / "p.parquet", "--quiet")
    logging.getLogger("motivnet_cli.engine.predictor").warning("no memory")

    assert "no memory" in caplog.text


def test_nobody_is_told_of_a_run(tmp_path):
    """No library keeps an identity of the machine or a queue of reports, and nothing is left among temporary files."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    unset = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")  # under which it might not
    command = ["env", *(f"--unset={name}" for name in unset), f"HOME={home}", f"TMPDIR={scratch}", sys.executable, "-m"]
    command += ["motivnet_cli", "annotate", SAMPLE_DATA, "--model", "expression-net", "--out", tmp_path / "p.parquet"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)

    assert [*home.rglob("*"), *scratch.rglob("*")] == []


def test_closed_pipe_ends_quietly(tmp_path):
    """A reader that goes away is no error."""
    command = f"{sys.executable} -m motivnet_cli models --json | true; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)

    assert (run.returncode, run.stderr) == (0, "")


def test_fault_of_the_machine_exits_1(tmp_path):
    """A file that cannot grow (as on a full disk) ends with exit 1, a sentence, and no half output."""
    limited = "import resource,sys,runpy; resource.setrlimit(resource.RLIMIT_FSIZE,(2000,2000)); "
    limited += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "sys.argv[0]='motivnet'; runpy.run_module('motivnet_cli', run_name='__main__')"
    arguments = ["annotate", str(SAMPLE_DATA), "--model", "expression-net", "--out", str(tmp_path / "p.parquet")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it writes, too
    run = subprocess.run(
        [sys.executable, "-c", limited, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environ,
    )

    assert run.returncode == 1
    assert "File too large; what was committed is kept: run the same command again to continue" in run.stderr
    assert f"error: {tmp_path / 'p.parquet.work'}" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "p.parquet").exists()
    assert annotate(SAMPLE_DATA, "--out", tmp_path / "p.parquet").exit_code == 0


def test_models_says_what_was_never_verified(tmp_path):
    """The cards say plainly which classes were never verified and on what terms a model may be used."""
    run = motivnet("models", "--store", tmp_path)

    assert "non-commercial" in run.stdout
    assert run.stdout.count("Sapiens v1 code and weights") == 1  # of the seven encoders together
    assert max(map(len, run.stdout.splitlines())) <= 80
    one = motivnet("models", "expression-net", "--store", tmp_path)
    assert "Sadness, fear, disgust and anger were never verified" in " ".join(one.stdout.split())
    cards = json.loads(motivnet("models", "--json", "--store", tmp_path).stdout)
    assert [card["name"] for card in cards] == list(CARDS)


def test_other_systems_are_refused():
    """Before anything is tried that cannot work there."""
    code = "import os, motivnet_cli.cli as cli; os.name = 'nt'; cli.main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert run.returncode == 1
    assert run.stderr.startswith("error: motivnet runs on Linux and macOS, and this is ")
    assert run.stderr.endswith("on Windows, run it within WSL\n")


def test_python_m_imports_nothing_from_the_working_folder(tmp_path):
    """As the `motivnet` command: what lies among the pictures is no part of it."""
    (tmp_path / "typer.py").write_text("raise SystemExit('sprung')")
    run = subprocess.run(
        [sys.executable, "-m", "motivnet_cli", "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert (run.returncode, run.stdout) == (0, f"motivnet {motivnet_cli.__version__}\n"), run.stderr


def test_version():
    """--version names the version, and nothing else."""
    assert motivnet("--version").stdout == f"motivnet {motivnet_cli.__version__}\n"


@pytest.mark.parametrize("command", [["--help"], ["annotate", "--help"], ["models"], ["--version"]])
def test_light_commands_import_nothing_heavy(command):
    """Help, version and the cards wait for neither torch nor pyarrow."""
    code = (
        "import sys, runpy; sys.argv = ['motivnet', *sys.argv[1:]]\n"
        "try: runpy.run_module('motivnet_cli', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pyarrow', 'polars', 'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, timeout=300)


def test_a_run_waits_for_nothing_that_it_does_not_need(tmp_path):
    """A folder of pictures is no table; and as it ends, Python does not search all that was imported for garbage."""
    code = (
        "import gc, runpy, sys; sys.argv = ['motivnet', *sys.argv[1:]]\n"
        "try: runpy.run_module('motivnet_cli', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "unused = {'polars', 'torchvision', 'scipy', 'sklearn', 'matplotlib', 'av'} & set(sys.modules)\n"
        "assert not unused, unused\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000"
    )
    arguments = [
        "annotate",
        SAMPLE_DATA,
        "--model",
        "expression-net",
        "--faces",
        "whole",
        "--out",
        tmp_path / "p.parquet",
    ]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, timeout=300)


def test_imports_are_not_searched_for_garbage():
    """But everything after them is, also where one fails."""
    with importing():
        is_searched = gc.isenabled()
    assert not is_searched
    assert gc.isenabled()
    with pytest.raises(ModuleNotFoundError), importing():
        importlib.import_module("no_such_module")
    assert gc.isenabled()


def test_installed_console_script():
    """The distribution installs `motivnet` beside its Python, and it is this package."""
    script = Path(sys.executable).with_name("motivnet")
    run = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, timeout=60)

    assert run.stdout == f"motivnet {motivnet_cli.__version__}\n"


SETTINGS = {
    "--out o.parquet": {"output.path": "o.parquet"},
    "--manifest m.csv": {"inputs.manifests": ("m.csv",)},
    "--manifest m.csv --path-column image": {"inputs.manifests": ("m.csv",), "inputs.path_column": "image"},
    "--keep age --keep sex": {"inputs.keep": ("age", "sex")},
    "--files-from f": {"inputs.files_from": ("f",)},
    "--files0-from z": {"inputs.files0_from": ("z",)},
    "--no-recursive": {"inputs.recursive": False},
    "--no-follow": {"inputs.follow_links": False},
    "--files-from f --allow-scheme abfs": {"inputs.files_from": ("f",), "inputs.allow_schemes": ("abfs",)},
    "--allow-private-addresses": {"loader.allow_private": True},
    "--manifest m.csv --box-columns x1,y1,x2,y2": {"inputs.manifests": ("m.csv",), "inputs.box_columns": "x1,y1,x2,y2"},
    "--relative-to /photos": {"inputs.relative_to": "/photos"},
    "--absolute": {"inputs.absolute": True},
    "--include *.png": {"inputs.include": ("*.png",)},
    "--exclude x/*": {"inputs.exclude": ("x/*",)},
    "--faces whole": {"faces.mode": "whole"},
    "--detector blazeface": {"faces.detector": "blazeface"},
    "--detection-size 640": {"faces.detection_size": 640},
    "--margin 0.5": {"faces.margin": 0.5},
    "--align": {"faces.align": True},
    "--min-face 9": {"faces.min_face": 9},
    "--max-roll 45": {"faces.max_roll": 45.0},
    "--min-sharpness 20": {"faces.min_sharpness": 20.0},
    "--max-faces 2": {"faces.max_faces": 2},
    "--min-confidence 0.9": {"faces.min_confidence": 0.9},
    "--fps 5": {"video.fps": 5.0},
    "--every 3": {"video.every": 3, "video.fps": None},
    "--frames all": {"video.fps": None},
    "--start 1.5": {"video.start_s": 1.5},
    "--end 2.5": {"video.end_s": 2.5},
    "--track": {"video.track": True},
    "--video-backend pyav": {"video.backend": "pyav"},
    "--model expression-net": {"model.name": "expression-net"},
    "--weights w.pth": {"model.weights": "w.pth"},
    "--store models": {"model.store": "models"},
    "--device cpu": {"model.device": "cpu"},
    "--batch-size 7": {"model.batch_size": 7},
    "--recipe pad": {"model.recipe": "pad"},
    "--no-flip": {"model.flip": False},
    "--precision fp32": {"model.precision": "fp32"},
    "--compile": {"model.compile": True},
    "--threads 3": {"loader.threads": 3},
    "--input-timeout 9": {"loader.input_timeout_s": 9.0},
    "--max-pixels 99": {"loader.max_pixels": 99},
    "--devices 0,cpu": {"scale.devices": ("cuda:0", "cpu")},
    "--shard 1/2": {"scale.shard": parse_shard("1/2")},
    "--engine ray": {"scale.engine": "ray"},
    "--engine ray --ray-address auto": {"scale.engine": "ray", "scale.ray_address": "auto"},
    "--engine ray --workers 4": {"scale.engine": "ray", "scale.workers": 4},
    "--engine ray --gpus-per-worker 0.5": {"scale.engine": "ray", "scale.gpus_per_worker": 0.5},
    "--engine ray --cpus-per-worker 2": {"scale.engine": "ray", "scale.cpus_per_worker": 2},
    "--embeddings none": {"output.embeddings": "none"},
    "--no-landmarks": {"output.landmarks": False},
    "--out - --format arrow": {"output.path": "-", "output.stream_format": "arrow"},
    "--overwrite": {"output.overwrite": True},
    "--retry-failed": {"output.retry_failed": True},
    "--extend": {"output.extend": True},
    "--hash": {"output.hash_contents": True},
    "--commit-seconds 5": {"output.commit_seconds": 5.0},
}
"""Options of annotate, and all settings that they change."""
OF_THE_CALL = {"--max-failures", "--dry-run", "--json", "--quiet", "--verbose", "--log-file", "--log-format"}
OF_THE_CALL |= {"--accept-terms", "--config", "--preset", "--print-config"}
"""Options of annotate that change no setting of the run by themselves."""


def settings_of(*words):
    """The settings that annotate makes of a command line, by name; nothing is run."""
    configs = []

    def annotate(config, **_):
        configs.append(config)
        raise ConfigError("no run is wanted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("motivnet_cli.run.annotate", annotate)
        assert motivnet("annotate", "photos", "--out", "p.parquet", *words).exit_code == 2
    (config,) = configs
    groups = ("inputs", "faces", "video", "model", "loader", "scale", "output")
    return {
        f"{group}.{field.name}": getattr(getattr(config, group), field.name)
        for group in groups
        for field in dataclasses.fields(getattr(config, group))
    }


@pytest.mark.parametrize("words", SETTINGS)
def test_an_option_changes_its_setting_alone(words):
    """What is typed becomes the setting that it names, and every other setting keeps its default."""
    assert settings_of(*words.split()) == settings_of() | SETTINGS[words]


def test_every_option_of_annotate_is_tried():
    """A new option is in the table above, or changes no setting."""
    parameters = typer.main.get_command(app).commands["annotate"].params
    options = {name for parameter in parameters for name in parameter.opts if name.startswith("--")}

    assert (
        options
        == {word for words in SETTINGS for word in words.split() if word.startswith("--")}
        - {
            "--no-recursive",
            "--no-flip",
            "--no-follow",
            "--no-landmarks",
        }
        | {"--recursive", "--flip", "--follow", "--landmarks"}
        | OF_THE_CALL
    )


@pytest.mark.parametrize(("columns", "colour"), [pytest.param(80, True, marks=pytest.mark.thorough), (120, False)])
def test_live_line_on_a_terminal(tmp_path, columns, colour):
    """A word before torch is imported, then a bar that fits on a line; NO_COLOR takes the colour away."""
    env = {} if colour else {"NO_COLOR": "1"}
    hook = (
        "import os, sys\n"
        "sys.addaudithook(lambda event, on: event == 'import' and on[0] == 'torch' and os.write(2, b'<torch>'))"
    )
    arguments = [
        "annotate",
        SAMPLE_DATA,
        "--model",
        "expression-net",
        "--batch-size",
        1,
        "--out",
        tmp_path / "p.parquet",
    ]
    written = on_a_terminal(*arguments, env=env | at_start(tmp_path, hook), columns=columns)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    bars = [line.strip() for line in re.split(r"[\r\n]+", shown) if " elapsed" in line]

    assert 0 <= shown.find(f"annotate: {SAMPLE_DATA}"[:60]) < shown.index("<torch>")
    assert shown.index("<torch>") < shown.index("reading the first inputs") < shown.index(" elapsed")
    assert bars
    for bar in bars:
        found = re.fullmatch(r"(?:[━╸╺ ]{6,} )?(\d+)% (\d)/5 inputs,.* \d+:\d\d elapsed(, \d+:\d\d left)?", bar)
        assert found, bar
        assert int(found[1]) == 20 * int(found[2])
        assert len(bar) <= columns
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", written)) is colour
