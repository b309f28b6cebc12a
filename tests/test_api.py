"""The public API: which names there are, that importing them is light, and that documents use no others."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import motivnet_cli

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "motivnet_cli"
PUBLIC = {
    "ConfigError",
    "FaceConfig",
    "FetchError",
    "InputConfig",
    "InputError",
    "LoadedModel",
    "LoaderConfig",
    "ModelConfig",
    "MotivNetError",
    "OutputConfig",
    "OutputConflictError",
    "PredictedFace",
    "PredictedPicture",
    "PredictedPictures",
    "Progress",
    "RunConfig",
    "ScaleConfig",
    "Shard",
    "Summary",
    "TrainingError",
    "VideoConfig",
    "WeightsError",
    "WorkerError",
    "__version__",
    "annotate",
    "load_checkpoint",
    "load_model",
    "predict",
    "read_faces",
    "read_inputs",
    "read_record",
    "tqdm_bar",
}
"""A name may be added in a minor version, and be lost in a major one (docs/api.md)."""
SUBMODULES = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}


def _python_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.M | re.S)


def _imported(node: ast.AST) -> list[tuple[str, str | None]]:
    """(module, name) of an import statement; the name is None where the module itself is imported."""
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "", alias.name) for alias in node.names]
    if isinstance(node, ast.Import):
        return [(alias.name, None) for alias in node.names]
    return []


DOCUMENTS = [document for document in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))] if _python_blocks(document)]


def test_public_names():
    """The package exports these names and no others, and each is there."""
    assert set(motivnet_cli.__all__) == PUBLIC
    assert set(dir(motivnet_cli)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(motivnet_cli, name).__class__.__name__ != "module", name


def test_type_checkers_see_the_same_names():
    """The block that type checkers read imports the exported names from where they are imported at run time."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {name: module for node in block.body for module, name in _imported(node)}

    assert set(seen) == PUBLIC - {"__version__"}
    for name, module in seen.items():
        assert getattr(motivnet_cli, name) is getattr(importlib.import_module(module), name)


def test_a_name_that_is_not_exported():
    """It is an AttributeError that names the package, as for any module."""
    with pytest.raises(AttributeError, match="module 'motivnet_cli' has no attribute 'annotat'"):
        motivnet_cli.annotat  # noqa: B018


def test_the_same_names_in_every_order_of_imports():
    """A submodule becomes an attribute of its package when it is imported; none may hide an exported name."""
    assert PUBLIC.isdisjoint(SUBMODULES)
    assert "run" in SUBMODULES, "the submodules were not found"


@pytest.mark.parametrize("statement", ["import motivnet_cli", "import motivnet_cli.weights", "import motivnet_cli.cli"])
def test_importing_is_light(statement):
    """Neither the package nor its command line import a heavy library before something is used."""
    heavy = "{'torch', 'torchvision', 'numpy', 'polars', 'pyarrow', 'PIL', 'onnxruntime', 'tqdm'}"
    code = f"import sys; {statement}; print(*({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == ""


def test_longer_paths_that_are_public():
    """These two paths were public before the package exported names."""
    from motivnet_cli import load_checkpoint, weights
    from motivnet_cli.cli import app

    assert weights.load_checkpoint is load_checkpoint
    assert isinstance(app, typer.Typer)
    with pytest.raises(AttributeError, match="no attribute 'load_checkpoin'"):
        weights.load_checkpoin  # noqa: B018


def test_the_page_lists_every_name():
    """docs/api.md has a row for each public name, and for no other."""
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "api.md").read_text(), flags=re.M)

    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(PUBLIC)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_use_public_names(document):
    """Python in the README and in docs/ imports from `motivnet_cli` itself, and only names that are exported."""
    for block in _python_blocks(document):
        for node in ast.walk(ast.parse(block)):
            for module, name in _imported(node):
                if module.split(".")[0] == "motivnet_cli":
                    assert (module, name in PUBLIC) == ("motivnet_cli", True), f"{module}: {name}"


def test_documents_with_python_are_found():
    """The README and the page of the API are among those that the test above reads."""
    assert {"README.md", "api.md", "output.md"} <= {document.name for document in DOCUMENTS}


@pytest.mark.thorough
def test_modules_import_from_where_a_name_is_defined():
    """Inside the package only `__version__` is imported from it: the import contract sees no further."""
    imported = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for module, name in _imported(node)
        if module == "motivnet_cli" and name not in {"__version__", *SUBMODULES}
    }

    assert imported == set()
