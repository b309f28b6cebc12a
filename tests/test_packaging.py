"""What is built for an index holds what it should and nothing else, and the known good versions are admitted ones."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from motivnet_cli import __version__

ROOT = Path(__file__).parents[1]
NAME = f"motivnet_cli-{__version__}"


def _tracked() -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("only a clone knows which files are tracked")
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in run.stdout.split("\0") if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(tracked files, folder with sdist and wheel), built from a clone in which people have worked."""
    pytest.importorskip("hatchling")
    pytest.importorskip("hatch_fancy_pypi_readme")
    clone = tmp_path_factory.mktemp("clone")
    tracked = _tracked()
    for name in tracked:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, clone / name)
    for stray in [
        "demo.parquet",
        ".venv/pyvenv.cfg",
        "build/x",
        "notes.txt",
        "motivnet_cli/__pycache__/run.cpython-311.pyc",
        "tests/__pycache__/conftest.cpython-311.pyc",
    ]:
        (clone / stray).parent.mkdir(parents=True, exist_ok=True)
        (clone / stray).write_text("a stray")
    run = subprocess.run(
        [sys.executable, "-m", "hatchling", "build"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return tracked, clone / "dist"


def test_sdist_has_documents_and_tests_and_no_strays(built):
    """All that is tracked but for the files of the repository's host and of its tools, and nothing that is not."""
    tracked, folder = built
    with tarfile.open(folder / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    left_out = {name for name in tracked if name.startswith((".ci/", ".github/")) or name == ".pre-commit-config.yaml"}

    assert names == tracked - left_out | {"PKG-INFO"}


def test_wheel_has_the_package_alone(built):
    """Every tracked file below motivnet_cli/, and the wheel's own metadata."""
    tracked, folder = built
    with zipfile.ZipFile(folder / f"{NAME}-py3-none-any.whl") as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"{NAME}.dist-info/")}

    assert names == {name for name in tracked if name.startswith("motivnet_cli/")}


def test_readme_of_the_index_has_no_relative_link(built):
    """On an index the README stands alone: each link names a host, and those to this repository name the release."""
    _, folder = built
    with zipfile.ZipFile(folder / f"{NAME}-py3-none-any.whl") as archive:
        metadata = BytesParser().parsebytes(archive.read(f"{NAME}.dist-info/METADATA"))
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    repository = dict(entry.split(", ") for entry in metadata.get_all("Project-URL"))["Homepage"]

    assert [link for link in links if not link.startswith("https://")] == []
    assert f"{repository}/blob/v{__version__}/docs/inputs.md" in links


def test_known_good_versions_are_admitted():
    """constraints.txt pins every dependency, each pin is in range, and each range has a start."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    needs = {canonicalize_name(need.name): need.specifier for need in map(Requirement, declared)}
    needs.pop(project["name"], None)  # one extra that names another
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {pin.name: pin.specifier for pin in map(Requirement, filter(re.compile("[^#]").match, lines))}
    versions = {name: str(pin).removeprefix("==") for name, pin in pins.items()}

    assert [name for name in needs if name not in versions] == []
    assert [name for name, specifier in needs.items() if versions[name] not in specifier] == []
    assert [name for name, specifier in needs.items() if ">=" not in str(specifier)] == []
