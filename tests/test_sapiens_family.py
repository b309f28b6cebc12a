"""Every size of Sapiens, as it was trained to find points of the body and as it was pretrained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from motivnet_cli.catalogue import CARDS, SAPIENS_SIZES
from motivnet_cli.cli import app
from motivnet_cli.errors import WeightsError
from motivnet_cli.model import SapiensEmbedder, SapiensSizes
from motivnet_cli.output.read import read_faces, read_record
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.networks import convert, load_network
from motivnet_cli.weights.position_table import read_position_table
from motivnet_cli.weights.store import Store
from tests.pictures import SAMPLE_DATA
from tests.server import Answer, FileServer

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
CHANGE = "resized from 8 x 8 to 8 x 6 tokens, bicubic, class token dropped"
HUB_FILES = {
    "sapiens-0.3b": "facebook/sapiens-pose-0.3b/sapiens_0.3b_goliath_best_goliath_AP_573.pth",
    "sapiens-0.6b": "facebook/sapiens-pose-0.6b/sapiens_0.6b_goliath_best_goliath_AP_609.pth",
    "sapiens-1b": "facebook/sapiens-pose-1b/sapiens_1b_goliath_best_goliath_AP_639.pth",
    "sapiens-0.3b-pretrained": "facebook/sapiens-pretrain-0.3b/sapiens_0.3b_epoch_1600_clean.pth",
    "sapiens-0.6b-pretrained": "facebook/sapiens-pretrain-0.6b/sapiens_0.6b_epoch_1600_clean.pth",
    "sapiens-1b-pretrained": "facebook/sapiens-pretrain-1b/sapiens_1b_epoch_173_clean.pth",
    "sapiens-2b-pretrained": "facebook/sapiens-pretrain-2b/sapiens_2b_epoch_660_clean.pth",
}


def pretrained(prefix="backbone.", *, rows=65, width=64, heads=1):
    """A tiny encoder as Sapiens was pretrained: a square table and a class token, beside parts of the pretraining."""
    sizes = SapiensSizes(width=width, depth=2, heads=heads, mlp=96, grid_height=8, grid_width=6)
    torch.manual_seed(3)
    tensors = {}
    for name, tensor in SapiensEmbedder(sizes).state_dict().items():
        tensors[prefix + published(name)] = torch.randn_like(tensor) * 0.2
    tensors[f"{prefix}pos_embed"] = torch.randn(1, rows, width)
    tensors[f"{prefix}cls_token"] = torch.randn(1, 1, width)
    return {**tensors, "neck.mask_token": torch.zeros(1, 1, 8), "head.weight": torch.zeros(2, 2)}


def published(name):
    """The name in a Sapiens checkpoint, spelled out here once more."""
    for ours, theirs in (
        ("encoder.patch_embed.", "patch_embed.projection."), ("encoder.position", "pos_embed"),
        ("encoder.norm.", "ln1."), ("encoder.blocks.", "layers."), ("norm1", "ln1"), ("norm2", "ln2"),
        ("attention.qkv", "attn.qkv"), ("attention.out", "attn.proj"), ("mlp.up", "ffn.layers.0.0"),
        ("mlp.down", "ffn.layers.1"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name


def test_the_catalogue_has_every_file_of_the_family():
    """Seven files, at the addresses that users of the hub give, under the terms of all."""
    found = {name: card.url for name, card in CARDS.items() if card.architecture == "sapiens"}

    assert found == {name: f"hf://{file}" for name, file in HUB_FILES.items()}
    assert all("CC BY-NC 4.0" in CARDS[name].terms for name in HUB_FILES)


@pytest.mark.parametrize("size", SAPIENS_SIZES, ids=lambda size: size.label)
def test_each_size_has_the_parameters_and_the_work_that_its_card_says(size):
    """Counted in the network itself, on the meta device, and the parameters by hand as well."""
    with torch.device("meta"):
        images = torch.empty(1, 3, 1024, 768)
        network = SapiensEmbedder(SapiensSizes(width=size.width, depth=size.depth, heads=size.heads, mlp=size.mlp))
    w, mlp = size.width, size.mlp
    attention, norms = (w * 3 * w + 3 * w) + (w * w + w), 2 * (w + w)
    block = norms + attention + (w * mlp + mlp) + (mlp * w + w)
    with FlopCounterMode(display=False) as counter:
        network.encoder(images)
    of_patches = 2 * 64 * 48 * 3 * 16 * 16 * w
    by_hand = (3 * 16 * 16 * w + w) + 64 * 48 * w + size.depth * block + (w + w)

    assert sum(parameter.numel() for parameter in network.parameters()) == by_hand == size.num_parameters
    assert counter.get_total_flops() - of_patches == pytest.approx(size.tflop * 1e12, rel=1e-9)
    assert f"{by_hand:,}" in CARDS[size.pretrained_name].title
    assert (size.width, size.mlp) == (network.embedding_size, 4 * size.width)


def test_the_table_is_resized_as_the_reference_resizes_it():
    """The definition in torch's own words: without the first row, as maps of 8 x 8, bicubically to 8 x 6."""
    table = torch.randn(1, 65, 5, generator=torch.Generator().manual_seed(1))
    position = read_position_table(65, size=None, patch=16)

    maps = table[:, 1:].reshape(1, 8, 8, 5).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(maps, size=(8, 6), mode="bicubic", align_corners=False)
    assert torch.equal(position.fit(table), expected.permute(0, 2, 3, 1).reshape(1, 48, 5))
    assert (position.grid, position.change) == ((8, 6), CHANGE)


def test_a_ramp_by_hand():
    """A table that rises by 1 a column and 10 a row, from 64 x 64 to 64 x 48.

    Column c of the 48 lies at (c + 1/2) 64/48 - 1/2 of the 64: by turns 1/6, 1/2 and 5/6 of the way to the next. The
    cubic kernel of torch (a = -3/4) takes four points of a line there to 23/108, 1/2 and 85/108. Outer columns, whose
    four points reach over the edge, are left out. The class token's row shows nowhere.
    """
    down, right = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    table = torch.cat([torch.full((1, 1, 1), -1e6), (10 * down + right).reshape(1, -1, 1)], 1)

    fitted = read_position_table(1 + 64 * 64, size=None, patch=16).fit(table).reshape(64, 48)

    columns = [4 * (c // 3) + (23 / 108, 1 + 1 / 2, 2 + 85 / 108)[c % 3] for c in range(48)]
    expected = 10 * torch.arange(64.0)[:, None] + torch.tensor(columns)
    assert_close(fitted[:, 1:47], expected[:, 1:47], atol=5e-4, rtol=0)
    half = read_position_table(1 + 64 * 64, size=None, patch=16).fit(table.clamp(min=0).half())
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "grid", "change"),
    [
        (12, (4, 3), ""),
        (3072, (64, 48), ""),
        (13, (4, 3), "class token dropped"),
        (17, (4, 3), "resized from 4 x 4 to 4 x 3 tokens, bicubic, class token dropped"),
        (4097, (64, 48), "resized from 64 x 64 to 64 x 48 tokens, bicubic, class token dropped"),
    ],
)
def test_what_a_table_is_for_follows_from_its_rows(rows, grid, change):
    """A grid of 4:3, with a class token or without one, or a square with one."""
    position = read_position_table(rows, size=None, patch=16)

    assert (position.grid, position.change, position.num_rows) == (grid, change, rows)


def test_no_table_can_be_read_in_two_ways():
    """Of all up to the size of pictures four times as large in each direction."""
    grids = {12 * unit**2: "4:3" for unit in range(1, 65)}
    with_token = {rows + 1 for rows in grids}
    squares = {side**2 + 1 for side in range(4, 257, 4)}

    assert not set(grids) & with_token
    assert not set(grids) & squares
    assert not with_token & squares


@pytest.mark.parametrize("rows", [1, 2, 5, 16, 50, 4096, 4098])
def test_other_tables_are_refused(rows):
    """Nothing is guessed: a square without a class token may be for square pictures."""
    with pytest.raises(WeightsError, match=f"its position table has {rows} tokens, which make no grid of 4:3"):
        read_position_table(rows, size=None, patch=16)


@pytest.mark.parametrize("prefix", ["backbone.", ""])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_pretrained_encoder_is_loaded_and_stored_resized(tmp_path, caplog, prefix, save):
    """The network, its copy in a store and what both say; all but the table is taken as it is."""
    tensors = pretrained(prefix)
    save(tensors, tmp_path / "sapiens_clean.pth")
    caplog.set_level("INFO")

    network = load_network(tmp_path / "sapiens_clean.pth")
    converted = convert(tmp_path / "sapiens_clean.pth", tmp_path / "stored.safetensors", metadata={})

    expected = {
        **tensors,
        f"{prefix}pos_embed": read_position_table(65, size=None, patch=16).fit(tensors[f"{prefix}pos_embed"]),
    }
    state, stored = network.state_dict(), load_network(tmp_path / "stored.safetensors")
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[prefix + published(name)])
        assert torch.equal(tensor, stored.state_dict()[name])
    assert (network.input_height, network.input_width) == (128, 96)
    assert network.position_change == stored.position_change == converted.position_change == CHANGE
    assert (converted.num_tensors, converted.num_ignored) == (len(state), 3)
    assert CHANGE in caplog.text
    with safe_open(tmp_path / "stored.safetensors", framework="pt") as opened:
        assert opened.metadata()["position_change"] == CHANGE


def test_a_class_token_without_a_row_of_the_table_is_refused(tmp_path):
    """What it stood for is not known."""
    save_file(pretrained(rows=48), tmp_path / "odd.safetensors")

    with pytest.raises(WeightsError, match=r"holds no Sapiens encoder.*1 unexpected: pose_encoder.cls_token"):
        load_network(tmp_path / "odd.safetensors")


def test_what_was_resized_is_in_every_record(tmp_path):
    """model.json and the output's record; of an encoder that was trained at its input size, neither says anything."""
    save_file(pretrained(), tmp_path / "small.safetensors")
    own = {name: tensor for name, tensor in load_file(TINY).items() if name.startswith("pose_encoder.")}
    save_file(own, tmp_path / "own.safetensors", {"heads": "4", "height": "128", "width": "96"})
    store = Store(tmp_path / "store")
    for name in ("small", "own"):
        store.install(name, file=tmp_path / f"{name}.safetensors")
        out = str(tmp_path / f"{name}.parquet")
        command = ["annotate", str(SAMPLE_DATA / "astronaut.png"), "--model", name, "--store", str(store.root)]
        run = CliRunner().invoke(app, [*command, "--out", out], catch_exceptions=False)
        assert run.exit_code == 0, run.stderr

    assert read_record(str(tmp_path / "small.parquet"))["position_change"] == CHANGE
    assert "position_change" not in read_record(str(tmp_path / "own.parquet"))
    assert [
        json.loads((store.root / name / "model.json").read_text())["position_change"] for name in ("small", "own")
    ] == [CHANGE, ""]
    assert read_faces(tmp_path / "small.parquet")["embedding"].dtype.shape == (64,)


@pytest.fixture
def small_family(monkeypatch):
    """The published sizes, but for 0.3B, which is as small as `pretrained`."""
    import motivnet_cli.weights.published as module

    small = SapiensSizes(width=64, depth=2, heads=1, mlp=96, grid_height=8, grid_width=6)
    changed = {
        name: traits._replace(sizes=small) if name.startswith("sapiens-0.3b") else traits
        for name, traits in module._PUBLISHED.items()
    }
    monkeypatch.setattr(module, "_PUBLISHED", changed)


def test_a_pretrained_file_is_not_stored_as_the_pose_encoder(tmp_path, small_family):
    """They have the same tensors once the table is resized; that it was tells them apart."""
    save_file(pretrained(), tmp_path / "pretrained.safetensors")
    fitting = {name: tensor for name, tensor in pretrained(rows=48).items() if "cls_token" not in name}
    save_file(fitting, tmp_path / "pose.safetensors")
    store = Store(tmp_path / "store")

    for name, file, is_not in (
        ("sapiens-0.3b", "pretrained", "position table is resized, not as trained"),
        ("sapiens-0.3b-pretrained", "pose", "position table is as trained, not resized"),
    ):
        with pytest.raises(WeightsError, match=f"holds another network than {name}: {is_not}"):
            store.install(name, file=tmp_path / f"{file}.safetensors")
    for name, file in (("sapiens-0.3b", "pose"), ("sapiens-0.3b-pretrained", "pretrained")):
        store.install(name, file=tmp_path / f"{file}.safetensors")
        model = load_model(name, store=str(store.root))
        assert (model.card, model.embedding_size) == (CARDS[name], 64)


DOWNLOAD = """
import os, sys, torch
os.environ.update(HF_ENDPOINT=sys.argv[1], HF_HUB_DISABLE_TELEMETRY="1", HF_HOME=sys.argv[2])
import motivnet_cli.weights.published as published
from motivnet_cli.model import SapiensSizes
small = SapiensSizes(width=64, depth=2, heads=1, mlp=96, grid_height=8, grid_width=6)
published._PUBLISHED = {name: traits._replace(sizes=small) for name, traits in published._PUBLISHED.items()}
from motivnet_cli.cli import app
app(["download-weights", "sapiens-0.6b-pretrained", "--store", sys.argv[3], "--accept-terms", "--json"])
"""


def test_a_name_of_the_family_is_downloaded_from_the_hub(tmp_path):
    """By the hub's own client, from a server here: where the card says, under its terms."""
    pytest.importorskip("huggingface_hub")
    torch.save(pretrained(), tmp_path / "file.pth")
    headers = {"X-Repo-Commit": "0" * 40, "Accept-Ranges": "bytes"}
    path = "/facebook/sapiens-pretrain-0.6b/resolve/main/sapiens_0.6b_epoch_1600_clean.pth"
    with FileServer() as server:
        server.on(path, Answer((tmp_path / "file.pth").read_bytes(), headers=headers))
        command = [
            sys.executable,
            "-c",
            DOWNLOAD,
            f"http://127.0.0.1:{server.port}",
            *map(str, (tmp_path / "hub", tmp_path / "store")),
        ]
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert run.returncode == 0, run.stderr
    assert "CC BY-NC 4.0" in run.stderr
    record = json.loads(run.stdout)
    assert record["source"] == "hf://facebook/sapiens-pretrain-0.6b/sapiens_0.6b_epoch_1600_clean.pth"
    assert (record["position_change"], record["terms"]) == (CHANGE, CARDS["sapiens-0.6b-pretrained"].terms)
