"""Settings from a file, a preset and the command line: which wins, that nothing is lost, and what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import tomlkit
import typer

from motivnet_cli import read_record
from motivnet_cli.cli import app
from motivnet_cli.cli.settings import PRESETS, SHARED, _commands, read_values
from tests.pictures import SAMPLE_DATA
from tests.runs import motivnet

ROOT = typer.main.get_command(app)
COMMANDS = dict(_commands(ROOT))
SETTINGS = [(words, key) for words, settings in COMMANDS.items() for key in settings]


def context_of(words, arguments):
    """The context in which a command would run, with its parameters as they were taken."""
    above, command = ROOT.context_class(ROOT, info_name="motivnet"), ROOT
    for word in words[:-1]:
        command = command.commands[word]
        above = command.context_class(command, info_name=word, parent=above)
    return command.commands[words[-1]].make_context(words[-1], list(arguments), parent=above)


def taken(words, *arguments):
    parameters = dict(context_of(words, arguments).params)
    return {name: value for name, value in parameters.items() if name not in ("config", "print_config")}


def printed(*arguments):
    """What --print-config says, as Python has it."""
    return tomlkit.parse(motivnet(*arguments, "--print-config").stdout).unwrap()


def a_value(setting):
    """A value that is not the default, as it stands in a file."""
    if setting.kind is bool:
        return True
    value = setting.choices[-1] if setting.choices else {int: 3, float: 1.25, str: "some text"}[setting.kind]
    return [value, value] if setting.many else value


def typed(setting, value):
    """A value of a file as it is typed."""
    values = [str(each) for each in (value if isinstance(value, list) else [value])]
    parameter = setting.parameter
    command = ROOT
    for word in setting_words(setting):
        command = command.commands[word]
    (own,) = [each for each in command.params if each.name == parameter]
    if own.param_type_name == "argument":
        return values
    if setting.kind is bool:
        return [own.opts[-1] if value else own.secondary_opts[-1]]
    return [word for each in values for word in (f"--{setting.key}", each)]


def setting_words(setting):
    return next(words for words, settings in COMMANDS.items() if any(each is setting for each in settings.values()))


def written(folder, words, values, name="run.toml"):
    table = values
    for word in reversed(words):
        table = {word: table}
    path = folder / name
    path.write_text(tomlkit.dumps(table))
    return path


def needed(words, but=()):
    """Values of what a command must be given, and of no other setting."""
    command = ROOT
    for word in words:
        command = command.commands[word]
    required = {each.name for each in command.params if each.required}
    settings = COMMANDS[words].values()
    return {each.key: a_value(each) for each in settings if each.parameter in required and each.key not in but}


# ---- every option of every command ------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_setting_of_a_file_is_as_if_typed(tmp_path, monkeypatch, words):
    """Set alone in a file, each option and argument comes to what it comes to when it is typed; flags also when off."""
    monkeypatch.delenv("MOTIVNET_HOME", raising=False)
    for key, setting in COMMANDS[words].items():
        for value in [True, False] if setting.kind is bool else [a_value(setting)]:
            others = needed(words, but=(key,))
            arguments = [word for name in others for word in typed(COMMANDS[words][name], others[name])]
            own = typed(setting, value)
            is_argument = own == [str(each) for each in (value if isinstance(value, list) else [value])]
            by_hand = taken(words, *([*own, *arguments] if is_argument else [*arguments, *own]))
            if is_argument:  # what follows it would be taken for it
                path = written(tmp_path, words, {key: value, **others})
                by_file = taken(words, "--config", path)
            else:
                by_file = taken(words, "--config", written(tmp_path, words, {key: value}), *arguments)
            assert by_file == by_hand, key


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_is_printed_reads_back(tmp_path, words):
    """All options of a command at once: what --print-config writes of them, --config reads to the same."""
    values = {key: a_value(setting) for key, setting in COMMANDS[words].items() if key != "preset"}
    for sides in (("fps", "every", "frames"), ("overwrite", "retry-failed", "extend"), ("relative-to", "absolute"),
                  ("device", "devices"), ("dataset", "suite"), ("root", "suite"), ("url", "from-file")):  # fmt: skip
        for key in sides[:-1]:
            if sides[-1] in values:
                values.pop(key, None)
    first = written(tmp_path, words, values)
    text = motivnet(*words, "--config", first, "--print-config").stdout
    (tmp_path / "second.toml").write_text(text)

    assert taken(words, "--config", tmp_path / "second.toml") == taken(words, "--config", first)
    assert motivnet(*words, "--config", tmp_path / "second.toml", "--print-config").stdout == text


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_defaults_are_printed_without_what_a_run_needs(words):
    """--print-config alone works for every command, names every setting once, and runs nothing."""
    text = motivnet(*words, "--print-config").stdout
    table = tomlkit.parse(text).unwrap()
    for word in words:
        table = table[word]
    unset = re.findall(r"^#   ([a-z0-9-]+)", text, flags=re.M)

    assert sorted([*table, *unset]) == sorted(COMMANDS[words])


def test_keys_are_the_names_that_are_typed():
    """As typed, without dashes, and no key of a command stands for two of its parameters."""
    assert {"inputs", "out", "max-faces", "json", "hash", "compile", "format", "dry-run"} <= COMMANDS[
        "annotate",
    ].keys()
    assert {"to", "input", "name"} <= COMMANDS["export", "model"].keys()
    for words, settings in COMMANDS.items():
        command = ROOT
        for word in words:
            command = command.commands[word]
        exposed = [each.name for each in command.params if each.name not in ("config", "print_config", "help")]
        assert sorted(each.parameter for each in settings.values()) == sorted(exposed)


def test_what_is_shared_means_the_same_everywhere():
    """Options that may stand before the first table are of one kind in all commands, and some command has each."""
    for key in SHARED:
        kinds = {
            (settings[key].kind, settings[key].many, settings[key].choices)
            for settings in COMMANDS.values()
            if key in settings
        }
        assert len(kinds) <= 1, key


# ---- which wins -------------------------------------------------------------------------------------------


def test_typed_ones_win_over_the_file_and_the_file_over_a_preset(tmp_path):
    """fps: 1 by default, 5 by preset, 2 by file, 9 if typed; lists that are typed replace those of the file."""
    file = written(tmp_path, ("annotate",), {"fps": 2, "include": ["*.a", "*.b"]})

    def fps(*arguments):
        return printed("annotate", *arguments)["annotate"].get("fps")

    assert fps() is None
    assert fps("--preset", "interview") == 5
    assert fps("--preset", "interview", "--config", file) == fps("--config", file, "--preset", "interview") == 2
    assert fps("--preset", "interview", "--config", file, "--fps", "9") == 9
    assert printed("annotate", "--config", file, "--include", "*.c")["annotate"]["include"] == ["*.c"]


def test_a_file_may_name_a_preset(tmp_path):
    """It applies below the file; a typed one takes its place."""
    file = written(tmp_path, ("annotate",), {"preset": "interview", "track": False})
    table = printed("annotate", "--config", file)["annotate"]
    assert (table["preset"], table["fps"], table["track"]) == ("interview", 5, False)

    table = printed("annotate", "--config", file, "--preset", "crops")["annotate"]
    assert (table["preset"], table["faces"], table.get("fps")) == ("crops", "whole", None)


def test_what_excludes_another_option_takes_its_place(tmp_path):
    """A typed --every puts fps out of force, be it of a file or preset, and so does that of a file with a preset's."""
    file = written(tmp_path, ("annotate",), {"every": 10, "extend": True})
    by_file = printed("annotate", "--preset", "interview", "--config", file)["annotate"]
    assert (by_file["every"], by_file.get("fps")) == (10, None)

    by_hand = printed("annotate", "--config", file, "--frames", "all", "--overwrite")["annotate"]
    assert (by_hand["frames"], by_hand.get("every")) == ("all", None)
    assert (by_hand["overwrite"], by_hand["extend"]) == (True, False)
    assert printed("annotate", "--config", file, "--no-overwrite")["annotate"]["extend"] is True
    run = motivnet("annotate", "x.jpg", "--every", "3", "--fps", "3", "--out", "p.parquet", code=2)
    assert "give only one of --fps, --every and --frames all" in run.stderr


def test_each_flag_of_a_file_can_be_switched_off(tmp_path):
    """--no-track, though --help does not name it."""
    file = written(tmp_path, ("annotate",), {"track": True, "recursive": False})

    table = printed("annotate", "--config", file, "--no-track", "--recursive")["annotate"]
    assert (table["track"], table["recursive"]) == (False, True)
    assert "--no-track" not in motivnet("annotate", "--help").stdout


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    """MOTIVNET_HOME is of this machine or session; a typed --store wins over both."""
    file = tmp_path / "run.toml"
    file.write_text("store = 'of-the-file'\n")
    monkeypatch.delenv("MOTIVNET_HOME", raising=False)
    assert printed("models", "--config", file)["models"]["store"] == "of-the-file"
    monkeypatch.setenv("MOTIVNET_HOME", "of-the-environment")
    assert printed("models", "--config", file)["models"]["store"] == "of-the-environment"
    assert printed("models", "--config", file, "--store", "typed")["models"]["store"] == "typed"


def test_one_file_for_a_project(tmp_path):
    """What stands at the top is of all commands that have it, a table of its own command, and a table wins."""
    file = tmp_path / "project.toml"
    file.write_text(
        "device = 'cpu'\n"
        "[annotate]\ninputs = ['photos']\ndevice = 'cuda'\n"
        "[evaluate]\nseed = 3\n"
        "[export.predictions]\nto = 'csv'\n[export.report]\nimages = false\n[download_weights]\nverify = true\n"
    )
    assert printed("annotate", "--config", file)["annotate"]["device"] == "cuda"
    assert printed("evaluate", "--config", file)["evaluate"]["device"] == "cpu"
    assert printed("evaluate", "--config", file)["evaluate"]["seed"] == 3
    assert printed("export", "predictions", "--config", file)["export"]["predictions"]["to"] == "csv"
    assert printed("download-weights", "--config", file)["download-weights"]["verify"] is True
    assert "device" not in printed("summary", "--config", file)["summary"]


# ---- values -----------------------------------------------------------------------------------------------


def test_paths_are_as_typed(tmp_path, monkeypatch):
    """Relative to where the command runs, as if typed, wherever the file lies; ~ is the home, as a shell has it."""
    (tmp_path / "settings").mkdir()
    file = written(tmp_path / "settings", ("annotate",), {"inputs": ["photos", "~/more", "~"], "out": "p.parquet"})
    monkeypatch.setenv("HOME", "/home/someone")

    table = printed("annotate", "--config", file)["annotate"]
    assert table["inputs"] == ["photos", "/home/someone/more", "/home/someone"]
    assert table["out"] == "p.parquet"


def test_natural_spellings(tmp_path):
    """Underscores for dashes, a number for a text, one text for a list of one, a whole number for any number."""
    file = tmp_path / "run.toml"
    file.write_text("\ufeff[annotate]\nmax_faces = 2\nbatch-size = 16\ninclude = '*.jpg'\nmargin = 1\n")

    table = printed("annotate", "--config", file)["annotate"]
    assert (table["max-faces"], table["batch-size"], table["include"], table["margin"]) == (2, "16", ["*.jpg"], 1.0)


def test_secrets_are_not_printed(tmp_path):
    """A URL's password and signature are left out of what is printed, and a comment says so; the run has them."""
    url = "https://user:word@host/a.jpg?X-Amz-Signature=deadbeef&v=1"
    file = written(tmp_path, ("annotate",), {"inputs": [url]})
    text = motivnet("annotate", "--config", file, "--print-config").stdout

    assert "word" not in text
    assert "deadbeef" not in text
    assert "# without the secrets in it" in text
    assert tomlkit.parse(text)["annotate"]["inputs"][0].startswith("https://host/a.jpg")
    assert taken(("annotate",), "--config", file, "--out", "p.parquet")["inputs"][0] == url


def test_a_name_that_is_not_utf8_cannot_be_printed():
    """TOML is UTF-8: the command says so, and prints nothing."""
    run = motivnet("annotate", os.fsdecode(b"\xff.jpg"), "--print-config", code=2)

    assert "is not UTF-8, and TOML holds nothing else" in run.stderr
    assert run.stdout == ""


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[annotate]\nmax-facse = 3", "max-facse in [annotate] is no setting; did you mean max-faces?"),
        ("[annotate]\nnoend = 3", "noend in [annotate] is no setting"),
        ("[annotate]\nno-recursive = true", "no-recursive in [annotate] is no setting: write recursive = false"),
        ("[annotate]\nno-track = true", "no-track in [annotate] is no setting: write track = false"),
        ("[annotate]\nconfig = 'a'", "config in [annotate] is no setting"),
        ("[annotate]\nprint-config = true", "print-config in [annotate] is no setting"),
        ("[annotate]\nmax-faces = 3\nmax_faces = 4", "max-faces stands twice in [annotate], with - and with _"),
        ("[annotate]\nmax-faces = 3.5", "max-faces in [annotate] takes a whole number; got 3.5"),
        ("[annotate]\nmax-faces = true", "max-faces in [annotate] takes a whole number; got true"),
        ("[annotate]\nmax-faces = '3'", "max-faces in [annotate] takes a whole number; got '3'"),
        ("[annotate]\nmax-faces = [3]", "max-faces in [annotate] takes a whole number; got [3]"),
        ("[annotate]\nfps = '2'", "fps in [annotate] takes a number; got '2'"),
        ("[annotate]\ntrack = 'yes'", "track in [annotate] takes true or false; got 'yes'"),
        ("[annotate]\ntrack = 1", "track in [annotate] takes true or false; got 1"),
        ("[annotate]\nout = true", "out in [annotate] takes a text in quotes; got true"),
        ("[annotate]\nout = ['a']", "out in [annotate] takes a text in quotes; got ['a']"),
        ("[annotate]\nout = {a = 1}", "out in [annotate] takes a text in quotes; got {'a': 1}"),
        ('[annotate]\nout = "a\\u0000b"', "out in [annotate] takes a text in quotes; got 'a\\x00b'"),
        ("[slurm-script]\ntime = 04:00:00", "time in [slurm-script] takes a text in quotes; got datetime.time(4, 0)"),
        ("[annotate]\ninclude = [true]", "include in [annotate] takes a list of such: a text in quotes; got [True]"),
        (
            "[annotate]\ndetector = 'retinafase'",
            "detector in [annotate] takes one of retinaface, blazeface; got 'retinafase'; did you mean retinaface?",
        ),
        ("[slurm-script]\ncpus = 0", "cpus in [slurm-script] takes a whole number of at least 1; got 0"),
        ("[anotate]\nfps = 1", "[anotate] is the table of no command; did you mean annotate?"),
        (
            "[export.prediction]\nto = 'csv'",
            "[export.prediction] is the table of no command; did you mean predictions?",
        ),
        ("[export]\nto = 'csv'", "[export.to] is the table of no command"),
        ("annotate = 3", "annotate at the top is no setting"),
        ("[[annotate]]\nfps = 1", "annotate at the top is no setting"),
        ("devise = 'cpu'", "devise at the top is no setting; did you mean device?"),
        ("device = 3.5j", "are not TOML"),
        ("device = ['cpu']", "device at the top takes a text in quotes; got ['cpu']"),
        ("fps = 2", "fps stands before the first table, where it would be of all commands: write it below [annotate]"),
        ("[annotate]\nfps = 2\nfps = 3", "are not TOML"),
        ("a" * 10 + "[" * 3000, "are not TOML"),
    ],
)
def test_mistakes_in_a_file(tmp_path, text, message):
    """Exit code 2, and one line that names file, key, place, what was expected, and the key that may be meant."""
    file = tmp_path / "run.toml"
    file.write_text(text)
    run = motivnet("status", "--config", file, "p.parquet", code=2)  # the whole file counts, whatever runs

    assert message in run.stderr
    assert str(file) in run.stderr.splitlines()[0]
    assert run.stderr.count("\n") == 2  # the second names --help
    assert run.stdout == ""


def test_files_that_cannot_be_read(tmp_path):
    """None there, a folder, and bytes that are no UTF-8."""
    (tmp_path / "latin.toml").write_bytes("[annotate]\nout = 'é'\n".encode("latin-1"))

    for path, message in [
        (tmp_path / "none.toml", "cannot be read (No such file or directory): name a TOML file"),
        (tmp_path, "cannot be read (Is a directory): name a TOML file"),
        (tmp_path / "latin.toml", "are not UTF-8: save the file as UTF-8"),
    ]:
        assert f"the settings in {str(path)!r} {message}" in motivnet("models", "--config", path, code=2).stderr


def test_an_unknown_preset(tmp_path):
    """Typed or in a file: the message names those that there are."""
    assert "interview" in motivnet("annotate", "--preset", "film", code=2).stderr
    file = written(tmp_path, ("annotate",), {"preset": "photo"})
    assert (
        "takes one of interview, photos, crops; got 'photo'; did you mean photos?"
        in motivnet("annotate", "--config", file, code=2).stderr
    )


# ---- presets, and what is recorded ------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.toml")), ids=lambda path: path.stem)
def test_each_preset_is_valid_and_documented(path):
    """Every key of a preset is one of annotate's, and the page of settings says why it has its value."""
    values = read_values(path.name, path.read_bytes(), ROOT)
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()

    assert list(values.tables) == [("annotate",)]
    assert not values.shared
    row = next(line for line in page.splitlines() if line.startswith(f"| `{path.stem}` |"))
    for key, value in values.tables["annotate",].items():
        assert f"`{key} = {str(value).lower() if isinstance(value, bool) else value}`".replace("'", "") in row


def test_the_record_of_a_run_says_where_its_settings_are_from(tmp_path):
    """The command names the file with its hash, and the preset; the settings are those in force."""
    out = tmp_path / "p.parquet"
    values = {"inputs": [str(SAMPLE_DATA / "astronaut.png")], "out": str(out), "preset": "interview", "max-faces": 1}
    file = written(tmp_path, ("annotate",), {**values, "model": "expression-net"})
    motivnet("annotate", "--config", file, "--min-face", "5", "--quiet")
    record = read_record(out)

    assert re.search(r"  # .*run\.toml: SHA-256 ([0-9a-f]{64}); preset interview$", record["command"])
    assert (record["video"]["fps"], record["video"]["track"]) == (5, True)
    assert (record["faces"]["max_faces"], record["faces"]["min_face"]) == (1, 5)

    motivnet("annotate", SAMPLE_DATA / "astronaut.png", "--model", "expression-net", "--out", out, "--overwrite", "-q")
    assert "#" not in read_record(out)["command"]


def test_the_tasks_of_an_array_take_a_file(tmp_path):
    """slurm-script passes --config on to annotate, and looks into it for what an array cannot have."""
    file = written(tmp_path, ("annotate",), {"out": "preds", "inputs": ["photos"]})
    script = motivnet("slurm-script", "--shards", "2", "--", "--config", file).stdout
    assert f"motivnet annotate --shard auto --config {file} &" in script
    assert "motivnet status preds --array" in script

    file = written(tmp_path, ("annotate",), {"out": "preds", "inputs": ["photos"], "overwrite": True})
    run = motivnet("slurm-script", "--shards", "2", "--", "--config", file, code=2)
    assert "--overwrite is the work of one call, not of an array" in run.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("annotate x --out p --format arrow", "--format would do nothing: that is for rows on stdout (--out -)"),
        ("annotate x --out p --path-column a --box-columns b", "--path-column and --box-columns would do nothing"),
        ("annotate x --out p --allow-scheme abfs", "--allow-scheme would do nothing: that is for --manifest, --files"),
        ("annotate x --out - --extend --json", "--extend and --json would do nothing: that is for an output that is"),
        ("annotate x --out p --faces whole --min-confidence 0.9", "--min-confidence would do nothing: that is for"),
        ("annotate x --out p --detector blazeface --detection-size 640", "that is for --detector retinaface"),
        ("evaluate --dataset own --predictions p --device cpu", "--device would do nothing: that is for a network"),
        ("export predictions p --to csv --out - --json", "--json would do nothing"),
        ("export report p --no-images --images-from x", "--images-from would do nothing: that is for --images"),
        ("export predictions p --to hf --out=", "--out is empty: give the output a name"),
        ("slurm-script --shards 2 -- x --out p --format arrow", "--format would do nothing"),
    ],
)
def test_an_option_that_cannot_act_is_refused(line, said):
    """Before anything is read: an option that is passed over in silence is taken for one that did its work."""
    assert said in motivnet(*line.split(), code=2).stderr


def test_an_option_of_a_file_waits_until_it_can_act(tmp_path):
    """A project's file has options for several calls, of which each uses some."""
    file = written(tmp_path, ("annotate",), {"path-column": "image", "format": "arrow", "exclude": ["*.png"]})
    said = motivnet("annotate", tmp_path / "none.png", "--config", file, "--out", tmp_path / "p", code=2).stderr

    assert "no such file or folder" in said


@pytest.mark.parametrize(
    ("pattern", "other"),
    [(("--exclude", "*.png"), ("--exclude", "*.jpg")), (("--include", "*.jpg"), ("--include", "*.png"))],
    ids=["exclude", "include"],
)
def test_patterns_that_contradict_a_named_file_are_refused(tmp_path, pattern, other):
    """The shell makes names of photos/*, and patterns are for the files in folders."""
    picture = tmp_path / "a.png"
    picture.touch()
    said = motivnet("annotate", tmp_path, picture, *pattern, "--dry-run", "--out", tmp_path / "p", code=2).stderr

    assert f"'{picture}' is named outright" in said
    motivnet("annotate", tmp_path, *pattern, "--dry-run", "--out", tmp_path / "p")
    motivnet("annotate", picture, *other, "--dry-run", "--out", tmp_path / "p")
