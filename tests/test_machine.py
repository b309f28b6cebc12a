"""What this machine has, and `motivnet bench` and `motivnet doctor`, which say it as JSON and for people."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from motivnet_cli.bench import READING_STAGES, agreement_of, bench, binding_stage, count_flop
from motivnet_cli.cli import app
from motivnet_cli.engine import machine
from motivnet_cli.engine.machine import choose_precision, compiled_code_key, core_quota, cpu_has_bf16, divide_cores
from motivnet_cli.errors import ConfigError
from motivnet_cli.weights.load import load_model
from tests.pictures import SAMPLE_DATA


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


@pytest.mark.slow
def test_bench_measures_every_stage(tmp_path, monkeypatch):
    """Each stage has a rate, the binding one is the slowest, and fp32 agrees with itself."""
    measured = []

    def kept(*arguments, **options):
        measured.append(bench(*arguments, **options))
        return measured[0]

    monkeypatch.setattr("motivnet_cli.bench.bench", kept)
    plot = tmp_path / "stages.png"
    arguments = ("--model", "expression-net", "--seconds", "0.2", "--agreement", "--plot", plot, "--faces", "whole")
    shown = run("bench", SAMPLE_DATA / "astronaut.png", *arguments)
    result = measured[0].as_json()

    assert list(result["stages"]) == [*READING_STAGES, "network", "write"]
    assert result["finding"] == {"mode": "whole"}
    assert result["faces"] == 1
    assert result["peak"]["flop_a_face"] == pytest.approx(2.06e8, rel=0.01)
    assert result["peak"]["flop_per_s"] > 1e8
    ways = {way["name"]: way for way in result["agreement"]}
    assert ways["fp32"]["probability_most"] == 0
    assert "GPUs" in ways["fp16"]["not_run"]
    assert 0 < ways["int8"]["probability_most"] < 0.05
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert f"bound by {result['bound_by']}\n" in shown.stdout
    assert "stage\tfaces/s\tms a face\n" in shown.stdout
    assert f"written: {plot}\n" in shown.stderr
    assert "bound_by" not in result["whole"]
    assert result["peak"]["bound_faces_per_s"] == pytest.approx(result["peak"]["flop_per_s"] / 2.06e8, rel=0.01)


@pytest.mark.parametrize(
    ("detect", "network", "write", "binding"),
    [(3, 6, 0, "detect"), (3, 7, 0, "network"), (0.5, 1, 9, "write"), (0.5, 2, 0, "decode")],
)
def test_the_binding_stage(detect, network, write, binding):
    """The slowest of reading, network and writing, and of what reading does, what takes longest."""
    stages = {"decode": 2, "detect": detect, "preprocess": 1.5, "network": network, "write": write}

    assert binding_stage(stages) == binding


def test_operations_are_those_of_the_network():
    """Counted without computing: MotivNet's tiny sibling by the formula of its layers."""
    model = load_model(weights=str(Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"))
    sizes = model.network.sizes
    tokens, d = sizes.grid_height * sizes.grid_width, sizes.width
    encoder = sizes.depth * (2 * tokens * d * (4 * d + 2 * sizes.mlp) + 4 * tokens**2 * d)
    encoder += 2 * tokens * d * 3 * sizes.patch**2

    assert encoder < count_flop(model) < 1.5 * encoder


@pytest.mark.slow
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="torch 2.14 writes C++ that does not compile there"
)
def test_bench_of_a_compiled_network():
    """--compile is measured, too."""
    arguments = (
        "--model",
        "expression-net",
        "--seconds",
        "0.1",
        "--faces",
        "whole",
        "--compile",
        "--batch-size",
        "2",
        "--json",
    )
    result = json.loads(run("bench", SAMPLE_DATA / "astronaut.png", *arguments).stdout)

    assert result["peak"]["flop_a_face"] == pytest.approx(2.06e8, rel=0.01)
    assert result["stages"]["network"]["faces_per_s"] > 0


@pytest.mark.parametrize("changed", [(torch, "__version__", "9.9"), (torch.backends.cpu, "get_cpu_capability", str)])
def test_compiled_code_is_kept_apart(monkeypatch, changed):
    """Code that was compiled for other instructions, or by another torch, is not found."""
    here = compiled_code_key()
    monkeypatch.setattr(*changed)

    assert compiled_code_key() != here


def test_bench_without_a_usable_picture(tmp_path):
    """What was given is named."""
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert "1 unusable" in run("bench", tmp_path, "--model", "expression-net", code=2).stderr


def test_agreement_of_known_predictions():
    """Two of three emotions equal, differences and cosines by hand."""
    ours = (np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32), np.array([[1, 0], [0, 2], [1, 1]], np.float32))
    theirs = (
        np.array([[0.8, 0.2], [0.2, 0.8], [0.4, 0.6]], np.float32),
        np.array([[1, 0], [0, 1], [1, 0]], np.float32),
    )
    found = agreement_of(ours, theirs)

    assert found.same_emotion == pytest.approx(2 / 3)
    assert found.probability_mean == pytest.approx(0.1)
    assert found.probability_most == pytest.approx(0.2)
    assert found.embedding_cosine_least == pytest.approx(2**-0.5)


def test_doctor_is_one_page(tmp_path, monkeypatch):
    """Versions, devices, codecs and the store, as text and as JSON; secrets in the environment are not shown."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    page = run("doctor", "--store", tmp_path, "--folder", tmp_path).stdout
    found = json.loads(run("doctor", "--store", tmp_path, "--folder", tmp_path, "--json").stdout)

    assert "sesame" not in page + json.dumps(found)
    assert found["environment"]["SLURM_JOB_ID"] == "42"
    assert found["devices"][0]["device"] == "cpu"
    assert found["codecs"]["videos"]["h264"] is True
    assert found["disk"]["write_megabytes_per_s"] > 0
    assert f"torch {found['packages']['torch']}," in " ".join(page.split())
    lines = page.splitlines()
    assert lines[2:4] == [
        "Look at:",
        "  ! MotivNet's weights are not in the store: motivnet download-weights (4.6 GB);",
    ]
    assert len(lines) <= 40
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    free, total = found["processor"]["available_bytes"] / 1e9, found["processor"]["memory_bytes"] / 1e9
    memory = re.search(r"^  memory      ([0-9.]+) GB available of ([0-9.]+) GB$", page, flags=re.M)
    assert float(memory[2]) == pytest.approx(total, abs=0.06)
    assert abs(float(memory[1]) - free) < total
    headings = [line[:-1] for line in lines if re.fullmatch(r"\S.*:", line)]
    assert headings == ["Look at", "Devices", "Machine", "Disk", "Decoding", "Software", "Environment"]
    assert list(tmp_path.iterdir()) == []


def test_doctor_names_a_folder_that_cannot_be_written():
    """A disk that refuses is a remark, not a traceback."""
    found = json.loads(run("doctor", "--folder", "/proc", "--json").stdout)
    assert any("cannot be written" in remark for remark in found["remarks"])


def test_auto_is_fp32_unless_the_processor_multiplies_in_bf16():
    """On a CPU without AMX or AVX512-BF16 bf16 would be emulated; a small network stays at fp32 anyway."""
    cpu = torch.device("cpu")

    assert choose_precision("auto", cpu, is_small=True) == "fp32"
    assert choose_precision("auto", cpu, is_small=False) == ("bf16" if cpu_has_bf16() else "fp32")
    for wanted, device in (("fp16", cpu), ("int8", torch.device("cuda"))):
        with pytest.raises(ConfigError, match=wanted):
            choose_precision(wanted, device, is_small=False)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_control_group_counts(tmp_path, files, cores):
    """A container's share of the machine, of both versions of control groups."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    assert core_quota(tmp_path) == cores


@pytest.mark.parametrize(
    ("cores", "usable", "num_processes", "divided"),
    [
        ({0, 1, 2, 3}, 4, 2, [{0, 1}, {2, 3}]),
        ({4, 6, 9}, 3, 2, [{4}, {6}]),
        ({0, 1, 2, 3, 4, 5}, 4, 2, [{0, 1}, {3, 4}]),
        ({0}, 1, 2, [set(), set()]),
    ],
)
def test_cores_are_divided(monkeypatch, cores, usable, num_processes, divided):
    """Processes share no core, get no more than the control group grants, and are free where cores are few."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: cores, raising=False)
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)

    assert divide_cores(num_processes) == divided
