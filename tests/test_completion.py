"""The Tab key: what motivnet answers a shell, and what bash, zsh and fish make of it on a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from motivnet_cli.catalogue import CARDS
from motivnet_cli.cli import app
from motivnet_cli.cli.completion import answer
from motivnet_cli.evaluation.datasets.cards import CARDS as DATASETS
from motivnet_cli.export.formats import FORMATS


def offered(*words):
    """The words that are offered in place of the last."""
    return [line.partition("\t")[0] for line in answer(typer.main.get_command(app), words)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ann", ["annotate"]),
        ("export pre", ["predictions"]),
        ("annotate --max-", ["--max-faces", "--max-failures", "--max-pixels", "--max-roll"]),
        ("annotate --max-faces 3 --max-", ["--max-failures", "--max-pixels", "--max-roll"]),
        ("annotate --keep a --kee", ["--keep"]),
        ("annotate --no-fl", ["--no-flip"]),
        ("annotate --hel", ["--help"]),
        ("annotate --detector ", ["retinaface", "blazeface"]),
        ("annotate --detector=r", ["retinaface"]),
        ("annotate --detector = b", ["blazeface"]),
        ("annotate --batch-size ", ["auto"]),
        ("annotate --max-faces ", []),
        ("annotate ", [":files"]),
        ("annotate a b ", [":files"]),
        ("annotate -- --ou", [":files"]),
        ("annotate --store ", [":folders"]),
        ("annotate -o ", [":files"]),
        ("status preds.parquet ", []),
        ("slurm-script --shards 4 -- x --embed", ["--embeddings"]),
        ("slurm-script --shards 4 -- x --detector b", ["blazeface"]),
        ("export predictions --to ", list(FORMATS)),
        ("evaluate --dataset ", list(DATASETS)),
        ("frobnicate --", ["--version", "--help"]),
    ],
)
def test_what_is_offered(line, words):
    """Commands, options that are not yet given, what options take, and files or folders where names of these go."""
    assert sorted(offered(*line.split(" "))) == sorted(words)


def test_models_of_the_store_are_offered(tmp_path, monkeypatch):
    """Beside those of the catalogue; a store that cannot be read hides none of these."""
    monkeypatch.setenv("MOTIVNET_HOME", str(tmp_path))
    assert offered("annotate", "--model", "") == list(CARDS)
    assert offered("train", "--init", "sapiens-0.3") == ["sapiens-0.3b", "sapiens-0.3b-pretrained", ":files"]


def test_an_answer_imports_nothing_heavy():
    """The Tab key waits for neither torch nor tables."""
    lines = ["annotate --model mot", "evaluate --dataset raf", "export predictions --to c"]
    code = (
        "import sys; from motivnet_cli.cli import main\n"
        "for line in sys.argv[1:]: sys.argv = ['motivnet', *line.split()]; main()\n"
        "assert not {'torch', 'pyarrow', 'polars', 'numpy', 'rich'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, *lines]
    run = subprocess.run(command, env=os.environ | {"MOTIVNET_COMPLETE": "1"}, capture_output=True, text=True)

    assert (run.returncode, run.stderr) == (0, "")
    assert [line.partition("\t")[0] for line in run.stdout.splitlines()] == [
        "motivnet-1b",
        "rafdb",
        "rafdb_compound",
        "csv",
        "coco",
    ]


SHELLS = {
    "bash": (["bash", "-i"], """bind -x '"\\C-g": echo "<$READLINE_LINE>"'"""),
    "zsh": (
        ["zsh", "-i"],
        "show() { print -r -- \"<$BUFFER>\" }; zle -N show; bindkey '^G' show; unsetopt menu_complete",
    ),
    "fish": (["fish", "-i"], 'bind \\cg \'echo "<"(commandline)">"\''),
}
"""How each shell starts, and how it is told to print its line at Ctrl-G."""
TYPED = {
    "motivnet anno": "motivnet annotate ",
    "motivnet annotate --detector re": "motivnet annotate --detector retinaface ",
    "motivnet annotate --detector=re": "motivnet annotate --detector=retinaface ",
    "motivnet annotate --model mot": "motivnet annotate --model motivnet-1b ",
    "motivnet annotate my": "motivnet annotate my\\ photos/",
    "motivnet annotate --relative-to my": "motivnet annotate --relative-to my\\ photos/",
}
"""What is typed before the Tab key, and what stands there after it."""


@pytest.mark.thorough
@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key(shell, tmp_path, monkeypatch):
    """Installed as the help says, the next start of a shell completes; installed again, nothing is there twice."""
    pexpect = pytest.importorskip("pexpect")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    home = tmp_path / "home"
    (tmp_path / "work" / "my photos").mkdir(parents=True)
    home.mkdir()
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"HOME": str(home), "PATH": path, "TERM": "dumb", "PS1": "$ ", "HISTFILE": ""}
    for _ in range(2):
        assert CliRunner(env=env).invoke(app, ["completion", shell, "--install"]).exit_code == 0
    starts = "".join((home / file).read_text() for file in (".bashrc", ".zshrc") if (home / file).exists())
    assert starts.count("completion") == (shell != "fish")

    command, shows = SHELLS[shell]
    terminal = pexpect.spawn(command[0], command[1:], env=env, cwd=tmp_path / "work", timeout=30, encoding="utf-8")
    terminal.sendline(shows)
    terminal.sendline("echo rea''dy")
    terminal.expect("ready")
    found = {}
    for typed in TYPED:
        terminal.send(f"{typed}\t\x07")
        terminal.expect("<([^<>]*)>")
        found[typed] = terminal.match[1]
        terminal.send("\x03")
        while terminal.match[1]:  # a busy shell takes a moment to empty its line
            terminal.send("\x07")
            terminal.expect("<([^<>]*)>")
    terminal.close(force=True)

    assert found == TYPED
