"""`--help` as it is read at 80 and 120 columns, and what a mistake in a command line is answered with."""

from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from motivnet_cli.cli import app

ROOT = typer.main.get_command(app)


def motivnet(*words, columns=80):
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, list(words), prog_name="motivnet")


def commands():
    """The words and the command of everything that can be called."""
    found, waiting = {}, [((), ROOT)]
    while waiting:
        words, command = waiting.pop()
        found[words] = command
        waiting += [((*words, name), inner) for name, inner in getattr(command, "commands", {}).items()]
    return found


COMMANDS = commands()


def groups_of(text):
    """What stands at the left below each heading of a page."""
    found, heading = {}, None
    for line in text.splitlines():
        if re.fullmatch(r"\S.*:", line):
            heading = found.setdefault(line[:-1], [])
        elif match := re.match(r"  (?!motivnet |sbatch )(\S.*?)(?:  |$)", line):
            if heading is not None:
                heading.append(match[1])
        elif line and not line.startswith(" "):
            heading = None
    return found


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_the_terminal(words, columns):
    """-h is --help: no line is wider than the terminal, and one uses what a wider one has."""
    page = motivnet(*words, "-h", columns=columns)

    assert (page.exit_code, page.stderr) == (0, "")
    assert page.stdout == motivnet(*words, "--help", columns=columns).stdout
    widths = [len(line) for line in page.stdout.splitlines()]
    assert max(widths) <= columns
    assert columns == 80 or len(widths) <= len(motivnet(*words, "-h").stdout.splitlines())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_is_under_one_heading(words):
    """Each once, with what it takes as people write it, and with a sentence."""
    command = COMMANDS[words]
    shown = [row for rows in groups_of(motivnet(*words, "-h").stdout).values() for row in rows]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = parameter.metavar
            assert [row.strip("[.]") for row in shown].count(name.strip("[.]")) == 1, name
        else:
            name = max(parameter.opts, key=len)
            assert sum(name in re.split("[ ,/]+", row) for row in shown) == 1, name
            assert parameter.is_flag or parameter.metavar, name
        assert parameter.help.endswith((".", "...")), name
    assert "TEXT" not in " ".join(shown)
    assert not getattr(command, "commands", None) or {"predictions", "annotate"} & set(shown)


HEADINGS = {
    "Inputs": {"[INPUT...]", "--manifest FILE", "--recursive/--no-recursive"},
    "Output": {"-o, --out FILE|FOLDER|-", "--embeddings float16|float32|none"},
    "Faces": {"--faces detect|whole|auto", "--max-faces N"},
    "Video": {"--fps NUMBER", "--start SECONDS"},
    "Model": {"--model MODEL", "--weights FILE"},
    "Resume": {"--overwrite", "--extend"},
    "Machine": {"--device auto|cpu|cuda|cuda:N|mps", "--max-pixels PIXELS"},
    "Cluster": {"--shard I/N|auto", "--engine local|ray"},
    "Log": {"-q, --quiet"},
    "General": {"-h, --help"},
}


def test_the_headings_of_annotate():
    """In this order, each with what belongs below it."""
    groups = groups_of(motivnet("annotate", "-h").stdout)

    assert list(groups) == list(HEADINGS)
    assert [
        (title, names - set(groups[title])) for title, names in HEADINGS.items() if names - set(groups[title])
    ] == []


def test_commands_are_listed_with_their_whole_sentences():
    """annotate comes first; what each command does is the first sentence of its own page."""
    page = motivnet("-h").stdout
    text = " ".join(page.split())

    assert groups_of(page)["Predict"][0] == "annotate"
    assert "..." not in page
    for words, command in COMMANDS.items():
        if len(words) == 1:
            sentence = " ".join(command.help.partition("\n\n")[0].split())
            assert f" {words[0]} {sentence}" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("annotat x", "there is no command annotat; did you mean annotate?"),
        ("frobnicate", "there is no command frobnicate"),
        ("export predicitons", "there is no command predicitons; did you mean predictions?"),
        ("annotate x --out p --marign 1", "there is no option --marign; did you mean --margin?"),
        ("completion fissh", "motivnet completion takes bash, zsh or fish, got 'fissh'; did you mean fish?"),
        ("--versoin", "there is no option --versoin; did you mean --version?"),
        ("models --store", "--store needs a value: FOLDER"),
        ("bench x --faces", "--faces needs a value: detect|whole|auto"),
        ("evaluate --argmax al", "--argmax takes all or labelled, got 'al'; did you mean all?"),
        ("annotate x --out p --every x", "--every takes a whole number, got 'x'"),
        ("annotate x --out p --start=soon", "--start takes a number of seconds, got 'soon'"),
        ("annotate x --out", "--out needs a value: FILE|FOLDER|-"),
        ("annotate x --out p --track=3", "--track takes no value"),
        ("annotate x", "--out is missing"),
        ("status", "PREDICTIONS is missing"),
        ("slurm-script --shards 0 -- x", "--shards takes a whole number of at least 1, got '0'"),
        ("slurm-script --shards 2 -- x --out p --tarck", "there is no option --tarck; did you mean --track?"),
        ("annotate x --out p --\x1b[1mbold", r"there is no option --\x1b[1mbold"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_two_lines(line, said):
    """What is wrong, what was probably meant, and where help is; with exit code 2, and nothing on stdout."""
    run = motivnet(*line.split())

    assert (run.exit_code, run.stdout) == (2, "")
    first, second = run.stderr.splitlines()
    assert first == f"error: {said}"
    assert re.fullmatch(r"See: motivnet[a-z -]* --help", second)


@pytest.mark.parametrize("words", [words for words, command in COMMANDS.items() if hasattr(command, "commands")])
def test_a_group_alone_shows_its_help(words):
    """On stderr, with exit code 2: no command was given."""
    run = motivnet(*words)

    assert (run.exit_code, run.stdout) == (2, "")
    assert run.stderr == motivnet(*words, "-h").stdout


def test_help_makes_the_options_of_no_command(monkeypatch):
    """Those of all take as long as the rest of it (benchmarks/startup.py)."""
    made = []
    monkeypatch.setattr("motivnet_cli.cli.command.expand_groups", lambda function: made.append(function) or function)
    motivnet("--help")
    assert made == []
    motivnet("cite", "--help")
    assert [function.__name__ for function in made] == ["cite"]
