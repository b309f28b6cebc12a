"""Documents say what is true: commands run, exit codes and options are written down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from motivnet_cli import errors
from tests.pictures import SAMPLE_DATA

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUNNABLE = re.findall(r"<!-- run -->\n```(bash|python)\n(.*?)```", README, flags=re.S)


def test_readme_blocks_run_in_order(tmp_path):
    """Every block of the README that is marked to run does, one after the other, in a folder with sample_data."""
    assert {language for language, _ in RUNNABLE} == {"bash", "python"}
    shutil.copytree(SAMPLE_DATA, tmp_path / "sample_data")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, block in RUNNABLE:
        command = ["bash", "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        run = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
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
    """Every error type that the code can give an input is in docs/output.md."""
    documented = (ROOT / "docs" / "output.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "motivnet_cli").glob("*.py"))
    used = set(re.findall(r"(?:InputError|Problem)\(\s*\"(\w+)\"", source))

    assert used
    assert [name for name in sorted(used) if f"`{name}`" not in documented] == []
