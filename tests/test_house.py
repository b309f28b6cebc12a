"""Rules of the code base that no other tool enforces."""

from __future__ import annotations

import ast
import re
from importlib import resources
from pathlib import Path

import pytest

import motivnet_cli

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "motivnet_cli"
ASSETS = resources.files("motivnet_cli") / "assets"


def test_the_package_says_that_it_is_typed():
    """Type checkers read the annotations of an installed package only beside this marker."""
    assert (resources.files("motivnet_cli") / "py.typed").is_file()


def test_every_network_inside_the_package_has_its_notice():
    """The table of NOTICES.md names the networks that ship, and no others."""
    networks = {path.name for path in ASSETS.iterdir() if path.name.endswith((".onnx", ".safetensors"))}
    rows = [line for line in (ASSETS / "NOTICES.md").read_text().splitlines() if line.startswith("| `")]

    assert {row.split("`")[1] for row in rows} == networks
    assert len(networks) == 3


def test_every_decision_is_numbered_once():
    """Decision records are NNNN-title.md, numbered from 1 without a gap, with a heading that repeats the number."""
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert [record.name[:5] for record in records] == [f"{number:04}-" for number in range(1, len(records) + 1)]
    for record in records:
        assert record.read_text().startswith(f"# {record.name[:4]}: "), record.name


def test_private_names_stay_in_their_module():
    """No module of the package imports a name with an underscore from another one."""
    private = {
        f"{path.relative_to(ROOT)}: {node.module}.{alias.name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("motivnet_cli")
        for alias in node.names
        if alias.name.startswith("_") and alias.name != "__version__"
    }

    assert private == set()


def test_the_citation_names_this_version():
    """CITATION.cff is of the version that the package says it is."""
    assert f"\nversion: {motivnet_cli.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_a_bug_report_asks_for_the_doctor():
    """The form for bugs requires the output of `motivnet doctor`."""
    form = ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml"
    if not form.exists():
        pytest.skip("only a clone has the files of the repository's host")
    fields = re.split(r"^  - type: ", form.read_text(), flags=re.M)
    (doctor,) = (field for field in fields if "motivnet doctor" in field)

    assert "required: true" in doctor


def test_no_parquet_file_is_kept_in_memory():
    """pyarrow 26 buffers ahead by default, and iterating then holds all that was read: 0.4 GB of a file of 0.5 GB."""
    opened = [
        node
        for path in (ROOT / "motivnet_cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pq.ParquetFile"
    ]

    assert len(opened) > 5
    assert [ast.unparse(call) for call in opened if "pre_buffer" not in {word.arg for word in call.keywords}] == []
