"""The rules of the house that no other tool enforces."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_shipped_files():
    """The marker of types, the networks and their notices are inside the package."""
    shipped = {path.name for path in (resources.files("motivnet_cli") / "assets").iterdir()}

    assert (resources.files("motivnet_cli") / "py.typed").is_file()
    assert {"NOTICES.md", "expression.safetensors", "retinaface_mobilenet025.onnx", "blazeface_back.onnx"} <= shipped


def test_every_decision_is_numbered_once():
    """Decision records are NNNN-title.md with distinct numbers and a heading that repeats theirs."""
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert len({record.name[:4] for record in records}) == len(records) > 0
    for record in records:
        assert record.read_text().startswith(f"# {record.name[:4]}: ")
