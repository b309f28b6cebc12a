"""Documents say what is true: marked blocks run, commands and options exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from motivnet_cli import errors
from motivnet_cli.cli import app
from tests.pictures import SAMPLE_DATA

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        ".github/**/*.md",
        "benchmarks/*.md",
        "sample_data/*.md",
        "tests/golden/*.md",
    )
    for path in ROOT.glob(pattern)
)
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
HOME = "https://github.com/motivnet/motivnet/blob/main/"
"""What lies beside docs/ is linked to there: the site has no copy of it."""
OTHER_TOOLS = {
    "--array",
    "--build-arg",
    "--head",
    "--infilter",
    "--nv",
    "--ntasks",
    "--people",
    "--record",
    "--requeue",
    "--signal",
    "--strict",
}
"""Options that documents mention, of Slurm, Ray, Docker, LibreOffice, Apptainer, mypy, and of benchmarks/."""
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def _runnable(document: Path) -> list[tuple[str, str, str]]:
    """(language, code, output) of each block that is marked to run; the output is empty where it is not shown."""
    shown = r"(?:\n\n<!-- prints -->\n```text\n(.*?)```)?"
    return re.findall(rf"<!-- run -->\n```(bash|python)\n(.*?)```{shown}", document.read_text(), flags=re.S)


NEEDS = {"--to onnx": "onnxscript", "--to xlsx": "xlsxwriter", "--to sav": "pyreadstat"}


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/api.md",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("docs/limits.md", *(f"docs/tutorials/{path.name}" for path in TUTORIALS))
        ),
    ],
)
def test_marked_blocks_run_in_order(document, tmp_path):
    """Every block that is marked to run does, one after the other, beside sample_data, and prints what is shown."""
    blocks = _runnable(ROOT / document)
    assert blocks
    for words, module in NEEDS.items():
        if any(words in block for _, block, _ in blocks):
            pytest.importorskip(module)
    shutil.copytree(SAMPLE_DATA, tmp_path / "sample_data")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, block, shown in blocks:
        command = ["bash", "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        run = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PATH": path, "MOTIVNET_HOME": str(tmp_path / "store")},
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert shown in ("", run.stdout)


def test_exit_codes_are_documented():
    """Every exit code is in the table of docs/errors.md and in the command's help, and no other number is."""
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}

    table = (ROOT / "docs" / "errors.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.M)} == codes
    assert {int(code) for code in re.findall(r"\d+", app.info.epilog)} == codes


def _options() -> dict[tuple[str, ...], set[str]]:
    """The options of every command, by the words that name it."""
    found = {}
    waiting = [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        found[words] = {"--help"} | {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        waiting += [((*words, name), inner) for name, inner in getattr(command, "commands", {}).items()]
    return found


OPTIONS = _options()


def _without_cog(document: Path) -> str:
    """Without the programs that generate parts of it."""
    return re.sub(r"<!-- \[\[\[cog.*?\]\]\] -->", "", document.read_text(), flags=re.S)


def _commands(document: Path) -> list[str]:
    """What follows `motivnet` in the blocks of a document, up to the end of the line or of the command."""
    blocks = [block for language, block in FENCED.findall(_without_cog(document)) if language == "bash"]
    lines = [line.partition("  # ")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [command for line in lines for command in re.findall(r"\bmotivnet ((?!\.)[^|;&>)]*)", line)]


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if _commands(path)], ids=lambda path: path.name)
def test_documented_commands_exist(document):
    """Every command of a block is one that there is, with options that it has."""
    for command in _commands(document):
        before, _, after = command.partition(" -- ")  # slurm-script takes the arguments of annotate behind it
        words = before.split()
        name = max((known for known in OPTIONS if tuple(words[: len(known)]) == known), key=len)
        assert name, command
        assert set(OPTION.findall(before)) <= OPTIONS[name], command
        assert set(OPTION.findall(f" {after}")) <= OPTIONS["annotate",], command


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "CHANGELOG.md"],  # names options that are gone
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_mentioned_options_exist(document):
    """Every option that the text names in code type is one of motivnet's, or a known one of another tool."""
    text = FENCED.sub("", _without_cog(document))
    mentioned = {option for code in re.findall(r"`([^`\n]+)`", text) for option in OPTION.findall(code)}

    assert mentioned - set().union(*OPTIONS.values()) - OTHER_TOOLS == set()


def test_options_of_other_tools_are_mentioned():
    """The list of exceptions holds nothing that is not needed."""
    assert {option for option in OTHER_TOOLS if any(option in path.read_text() for path in DOCUMENTS)} == OTHER_TOOLS


def _anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *#*$", FENCED.sub("", _without_cog(document)), flags=re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        repeated = (f"{slug}-{number}" for number in range(1, len(anchors) + 2))
        anchors.add(slug if slug not in anchors else next(each for each in repeated if each not in anchors))
    return anchors


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    """Links to this repository's files point at some that exist, and at headings that these have."""
    for link in re.findall(rf"\]\((?!mailto:|(?!{HOME})https?:)([^)\s]+)\)", FENCED.sub("", _without_cog(document))):
        name, _, anchor = link.partition("#")
        folder = ROOT if name.startswith(HOME) else document.parent
        target = folder / name.removeprefix(HOME) if name else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("document", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_pages_look_the_same_on_the_site(document):
    """Where its Markdown is stricter than GitHub's: an empty line before a list, four spaces before one within."""
    lines = FENCED.sub("", _without_cog(document)).splitlines()
    items = re.compile(r" *(?:-|\d+\.) ")
    unseen = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if items.match(line) and before and not before.startswith((" ", "<!--")) and not items.match(before)
    ]

    assert unseen == []
    assert [line for line in lines if re.match(r" {1,3}(?:-|\d+\.) ", line)] == []


def test_every_page_has_a_place_on_the_site():
    """`nav` of mkdocs.yml names each page; decisions are listed by docs/decisions.md."""
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    named = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.M)

    assert sorted(named) == sorted(page for page in pages if not page.startswith("decisions/"))


def test_pictures_are_small_and_shown():
    """Together under 1 MB, and each of them in some document."""
    pictures = list((ROOT / "docs" / "images").iterdir())
    text = "".join(path.read_text() for path in DOCUMENTS)

    assert sum(path.stat().st_size for path in pictures) < 1_000_000
    assert [path.name for path in pictures if f"images/{path.name})" not in text] == []


def _python_files(text: str) -> list[str]:
    """The Python files that a text names in code type."""
    return re.findall(r"`([\w./]+\.py)`", text)


def _is_file(name: str, document: Path) -> bool:
    """A name is a path from the root, inside the package, or beside the document."""
    return any((folder / name).is_file() for folder in (ROOT, ROOT / "motivnet_cli", document.parent))


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if _python_files(path.read_text()) and "decisions" not in path.parts],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_named_modules_exist(document):
    """Every module that a document names is there; a decision may name those of its time."""
    assert [name for name in _python_files(document.read_text()) if not _is_file(name, document)] == []


def test_contributing_names_what_to_change():
    """Where a table of CONTRIBUTING.md names something in a module, the module defines it; folders exist."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`(\w+)` in `([\w/]+\.py)`", text)
    undefined = [
        f"{name} in {module}"
        for name, module in named
        if not re.search(rf"^(?:def |class )?{name}\b", (ROOT / "motivnet_cli" / module).read_text(), flags=re.M)
    ]

    assert len(named) >= 5
    assert undefined == []
    for folder in re.findall(r"`([\w/]+/)`", text):
        assert (ROOT / folder).is_dir() or (ROOT / "motivnet_cli" / folder).is_dir(), folder
