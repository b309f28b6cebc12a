"""Documents say what is true: commands run, exit codes and options are written down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from motivnet_cli import errors
from tests.pictures import SAMPLE_DATA

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _runnable(document: Path) -> list[tuple[str, str]]:
    """(language, code) of each block that is marked to run."""
    return re.findall(r"<!-- run -->\n```(bash|python)\n(.*?)```", document.read_text(), flags=re.S)


@pytest.mark.parametrize("document", ["README.md", "docs/api.md"])
def test_marked_blocks_run_in_order(document, tmp_path):
    """Every block that is marked to run does, one after the other, in a folder with sample_data."""
    blocks = _runnable(ROOT / document)
    assert blocks
    shutil.copytree(SAMPLE_DATA, tmp_path / "sample_data")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, block in blocks:
        command = ["bash", "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        run = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PATH": path},
            check=False,
        )
        assert run.returncode == 0, run.stderr


def test_exit_codes_are_documented():
    """Every exit code is in the README's table and in the command's help."""
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.M)}

    assert documented == codes


@pytest.mark.parametrize("document", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    """Relative links in documents point at files that exist."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_error_types_are_documented():
    """The table of docs/output.md has the error types that an input can have, and no others; each is in use."""
    text = (ROOT / "docs" / "output.md").read_text()
    table = text.partition("| `error_type` | meaning |\n")[2].partition("\n\n")[0]
    documented = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    sources = [path.read_text() for path in (ROOT / "motivnet_cli").rglob("*.py") if path.name != "errors.py"]

    assert sorted(documented) == sorted(get_args(errors.ErrorType))
    assert [name for name in documented if not any(f'"{name}"' in source for source in sources)] == []
