"""What a stranger has named is shown and stored everywhere, and obeyed nowhere."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import shlex
import subprocess
import tarfile
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from motivnet_cli.cli.log import say
from motivnet_cli.cli.options import LogOptions
from motivnet_cli.cli.terminal import print_json, print_lines, talking
from motivnet_cli.errors import ConfigError, WeightsError, one_line
from motivnet_cli.export.formats import FORMATS
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.inputs.names import printable
from motivnet_cli.output.read import read_inputs
from motivnet_cli.output.tables import METADATA_KEY
from motivnet_cli.records import EMOTIONS
from motivnet_cli.report import figures
from motivnet_cli.report.predictions import write_page
from motivnet_cli.weights.networks import load_checkpoint
from tests.exported import clip, face, output
from tests.hostile import FILE_NAMES, NAMES, live_characters
from tests.runs import motivnet

HOSTILE_RECORD = {"model": "\x1b[31m<b>\n\n00:00:00.000 --> 00:00:09.000\nx", "terms": "[x](javascript:alert(1))\n# y"}


def tree(folder):
    return {path for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A folder of pictures with hostile names, and an archive of them: half are pictures."""
    folder = tmp_path_factory.mktemp("strangers")
    for number, name in enumerate(FILE_NAMES.values()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if number % 2:
            Image.new("RGB", (16, 16)).save(folder / name, "PNG")
        else:
            (folder / name).write_bytes(b"\x1b]0;title\x07 no picture")
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "PNG")
    with tarfile.open(folder / "[red]\x1b[31m.tar", "w") as archive:
        for name in (*NAMES.values(), "x.\x1b[31m"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content.getvalue())
            archive.addfile(entry, io.BytesIO(content.getvalue()))
    return folder


@pytest.fixture(scope="module")
def annotated(strangers, tmp_path_factory):
    """The output of a run over them, and what it said."""
    out = tmp_path_factory.mktemp("annotated") / "p.parquet"
    options = ("--faces", "whole", "--embeddings", "none", "--max-failures", "100%", "--json")
    return out, motivnet("annotate", strangers, "--model", "expression-net", "--out", out, *options)


def test_a_run_says_names_and_obeys_none(strangers, annotated):
    """On stderr every name stands on one line, without anything that a terminal obeys; so it does in the JSON."""
    _, run = annotated
    failed = [name for number, name in enumerate(FILE_NAMES.values()) if number % 2 == 0]
    named = [line for line in run.stderr.splitlines() if line.startswith("failed: ")]

    assert live_characters(run.stderr) == set()
    assert live_characters(run.stdout) == set()
    assert len(named) == min(len(failed), 10)
    assert all(any(line.startswith(f"failed: {one_line(printable(name))}: ") for name in failed) for line in named)
    assert {failure["input"] for failure in json.loads(run.stdout)["failures"]} <= set(map(printable, failed))
    assert "passed over 1 members: .\\x1b[31m" in run.stderr


def test_names_are_stored_as_they_are(strangers, annotated):
    """In the table a name is a value: the file is found by it again."""
    out, _ = annotated
    inputs = read_inputs(out)
    given = inputs.filter(inputs["archive"].is_null())["input"].to_list()

    assert sorted(given) == sorted([printable(str(path.relative_to(strangers))) for path in tree(strangers)])
    assert len(inputs) == len(FILE_NAMES) + 1 + len(NAMES) - 2  # in a tar, one is hidden, and one ends at its NUL


@pytest.mark.parametrize("options", [("--dry-run", "--json"), ("--out", "-")])
def test_other_ways_of_saying_them(strangers, options):
    out = () if "--out" in options else ("--out", "unused.parquet")
    arguments = ("--faces", "whole", "--model", "expression-net", "--embeddings", "none", "--max-failures", "100%")
    run = motivnet("annotate", strangers, *arguments, *out, *options)

    assert live_characters(run.stderr) == set()
    assert live_characters(run.stdout) == set()
    assert all(json.loads(line) for line in (run.stdout.strip().split("\n") if "-" in options else [run.stdout]))


@pytest.mark.parametrize("what", [*NAMES, *FILE_NAMES])
def test_a_message_is_one_line_without_commands(what, capsys):
    """Whatever a message or a log line holds, on a terminal and in a file; words of all scripts stay."""
    name = (NAMES | FILE_NAMES)[what]
    with talking(LogOptions()):
        say(f"\N{SNOWMAN} é 表 {name}")
        logging.getLogger("motivnet_cli.any").warning("%s", name)
    print_lines([f"{name}\t{name}"])
    print_json({name: [name]})
    said = capsys.readouterr()

    assert live_characters(said.err) == set()
    assert live_characters(said.out, allowed="\n\t") == set()
    assert said.err.count("\n") == 2
    assert said.err == f"\N{SNOWMAN} é 表 {one_line(name)}\nwarning: {one_line(name)}\n"
    table, _, text = said.out.partition("\n")
    assert table == f"{one_line(name)}\t{one_line(name)}" or "\t" in name
    assert json.loads(text) == {name: [name]}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_data_on_a_stdout_of_another_encoding(encoding, monkeypatch):
    """JSON stays JSON, and text is printed with escapes for what cannot be."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", stdout)
    value = {"é": ["表", *NAMES.values(), *FILE_NAMES.values()]}
    print_json(value)
    written = stdout.buffer.getvalue()
    print_lines(["é 表"])

    assert json.loads(written.decode(encoding)) == value
    assert stdout.buffer.getvalue().endswith(b"\n")


def test_an_error_names_a_file_on_one_line(tmp_path):
    name = "".join(NAMES.values()).replace("\0", "")
    for arguments in (
        ("annotate", name, "--out", tmp_path / "p.parquet"),
        ("status", name),
        ("annotate", "--out", name),
    ):
        said = motivnet(*arguments, code=2).stderr
        assert live_characters(said) == set()


# ---- exports ----------------------------------------------------------------------------------------------


def hostile_output(folder, names, *, videos=False):
    """An output whose inputs have these names, with a failed input for each of them and a hostile record."""
    faces = []
    for name in names:
        faces += clip(name, ["anger", "fear"]) if videos else [face(name, emotion="anger")]
    inputs = {name: {"kind": "video"} if videos else {} for name in names}
    failed = {f"bad {name}": {"status": "failed", "error": name, "error_type": "damaged", "faces": 0} for name in names}
    path = output(folder, faces, inputs | failed)
    for file in (path, path.with_suffix(".inputs.parquet")):
        table = pq.read_table(file)
        record = json.loads(table.schema.metadata[METADATA_KEY]) | HOSTILE_RECORD
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(record)}), file)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return hostile_output(tmp_path_factory.mktemp("pictures"), list(NAMES.values()))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return hostile_output(tmp_path_factory.mktemp("videos"), list(NAMES.values()), videos=True)


@pytest.mark.parametrize("to", FORMATS)
def test_exports_stay_in_their_place(to, pictures, videos, tmp_path):
    """No name of an input leads out of the folder that was asked for, and JSON and XML stay what they are."""
    source = videos if FORMATS[to].is_folder is None else pictures
    is_file = FORMATS[to].is_folder is False
    out = tmp_path / "deep" / "er" / ("x" + FORMATS[to].suffix if is_file else "x")
    out.parent.mkdir(parents=True)
    export_predictions(source, to, out, embeddings=to in ("npy",))
    written = tree(tmp_path)

    assert all(path == out or path.is_relative_to(out) for path in written)
    assert not any(path.is_symlink() for path in written)
    for path in written:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".xml", ".eaf"):
            ElementTree.parse(path)
        elif path.suffix == ".jsonl":
            assert len([json.loads(line) for line in path.read_bytes().splitlines()]) == len(NAMES)
    if to in ("webvtt", "srt", "elan", "openface"):
        assert len(written) == len(NAMES) + 1  # and the marker


@pytest.mark.parametrize("to", ["csv", "pyfeat", "openface"])
def test_no_cell_is_a_formula(to, pictures, tmp_path):
    """A spreadsheet runs what begins with = + - @, a tab or the like, also after a separator within a name."""
    out = export_predictions(pictures, to, tmp_path / ("x.csv" if to != "openface" else "x"))
    rows = []
    for path in [out] if out.is_file() else out.rglob("*.csv"):
        rows += csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
    cells = [cell for row in rows for cell in row.values() if not re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell)]

    assert len(rows) == len(NAMES)
    assert not [cell for cell in cells if re.match("[=+\\-@\t\r\n\N{FULLWIDTH EQUALS SIGN}]", cell)]
    if to != "openface":
        assert {row["input"].removeprefix("'") for row in rows} == {name.removeprefix("'") for name in NAMES.values()}


def test_columns_that_a_stranger_named(tmp_path):
    """A header of a CSV is no formula, and an array of an npz no path."""
    path = output(tmp_path, [face("a.jpg", emotion="anger")], {"a.jpg": {}})
    names = ["=1+1", "+x", "\x1b[31m", "a\nb", "../../x"]
    table = pq.read_table(path)
    for name in names:
        table = table.append_column(name, [["=1+1"]])
    pq.write_table(table, path)
    (row,) = csv.DictReader(io.StringIO(export_predictions(path, "csv", tmp_path / "x.csv").read_bytes().decode()))
    rows = json.loads(export_predictions(path, "jsonl", tmp_path / "x.jsonl").read_text())

    assert not [cell for cell in (*row, *row.values()) if re.match("[=+\\-@\t\r\n]", cell)]
    assert set(names) <= set(rows)
    with pytest.raises(ConfigError, match="an npz cannot have an array called"):
        export_predictions(path, "npz", tmp_path / "x.npz")


@pytest.mark.parametrize("to", ["webvtt", "srt"])
def test_captions_hold_the_cues_of_their_faces_only(to, videos, tmp_path):
    """Neither the model's name nor a video's adds a cue, or a tag that a player obeys."""
    suffix = FORMATS[to].suffix
    for path in export_predictions(videos, to, tmp_path / "x").rglob(f"*{suffix}"):
        text = path.read_text()
        assert len(re.findall(r"^\d\d:.* --> \d\d:.*$", text, re.MULTILINE)) == 2
        assert not re.search(r"<(?!v track 0>)|\{", re.sub("^NOTE .*$", "", text, flags=re.MULTILINE))


def test_the_card_of_a_data_set_is_text(pictures, tmp_path):
    """The card has its own headline alone, and no link."""
    card = (export_predictions(pictures, "hf", tmp_path / "x") / "README.md").read_text()

    assert re.findall("^#.*", card, re.MULTILINE) == ["# Emotions and embeddings of faces"]
    assert not re.search(r"(?<!\\)\]\(|(?<!\\)<", card)
    assert live_characters(card) == set()


def test_what_a_message_offers_to_copy_is_one_word(videos, tmp_path):
    """A condition that a message suggests runs nothing in a shell, and chooses the video."""
    with pytest.raises(ConfigError, match="such as --where") as caught:
        export_predictions(videos, "srt", tmp_path / "x.srt")
    words = shlex.split(str(caught.value).partition("such as ")[2])

    assert words[0] == "--where"
    assert len(words) == 2
    for name in ("$(touch pwned)`touch pwned`'x'", next(iter(NAMES.values()))):
        two = hostile_output(tmp_path, ["other.mp4", name], videos=True)
        with pytest.raises(ConfigError) as caught:
            export_predictions(two, "srt", tmp_path / "x.srt")
        suggested = str(caught.value).rpartition("such as --where ")[2]
        where = subprocess.run(["sh", "-c", f"printf %s {suggested}"], capture_output=True, text=True, cwd=tmp_path)
        export_predictions(two, "srt", tmp_path / "one.srt", where=where.stdout, overwrite=True)
    assert not (tmp_path / "pwned").exists()


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("of", ["pictures", "videos"])
def test_names_are_text_on_a_page(of, request, tmp_path):
    """No element, attribute, link or script comes from a name, a reason or the record, and nothing turns the text."""
    path = request.getfixturevalue(of)
    text = write_page(str(path), str(tmp_path / "r.html")).read_text()
    page = _Elements(text)
    own = {"html", "head", "meta", "title", "link", "style", "body", "div", "header", "p", "h1", "h2", "h3", "nav"}
    own |= {"ul", "li", "a", "main", "section", "figure", "img", "figcaption", "table", "thead", "tr", "th", "tbody"}
    own |= {"td", "span", "b", "code", "footer", "svg", "path", "rect", "i", "details", "summary"}

    assert {tag for tag, _ in page.found} <= own
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert all(attributes["href"].startswith(("#", "data:,")) for _, attributes in page.found if "href" in attributes)
    assert all(attributes["src"].startswith("data:image/") for _, attributes in page.found if "src" in attributes)
    assert live_characters(text, allowed="\n\t") == set()
    assert NAMES["element"] in page.text


# ---- names of classes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["\x1b[31m", "a\nb", "\u202ex", " x", "input", "Confidence", "embedding", "x1"])
def test_a_class_that_cannot_be_called_so(name, tmp_path):
    """Neither weights nor a table of predictions may bring a class that is no plain word, or is another column."""
    path = output(tmp_path, [face("a.jpg", emotion="anger")], {"a.jpg": {}}, classes=EMOTIONS)
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[METADATA_KEY]) | {"classes": [*EMOTIONS, name]}
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(record)}), path)

    with pytest.raises(ConfigError, match="a record that motivnet did not write"):
        export_predictions(path, "csv", tmp_path / "x.csv")


@pytest.mark.parametrize(
    "record", ["[]", "7", "{", '{"classes": 7}', '{"classes": [7]}', '{"settings": []}', '{"video": 7}']
)
def test_a_record_that_is_none(record, tmp_path):
    """Refused in a sentence: a stranger's table is no fault of motivnet."""
    path = output(tmp_path, [face("a.jpg", emotion="anger")], {"a.jpg": {}})
    pq.write_table(pq.read_table(path).replace_schema_metadata({METADATA_KEY: record}), path)
    with pytest.raises(ConfigError, match="a record that motivnet did not write"):
        export_predictions(path, "csv", tmp_path / "x.csv")


def test_weights_with_a_class_that_cannot_be_called_so(tmp_path):
    golden = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
    with safe_open(golden, "pt") as file:
        metadata = file.metadata() or {}
    for name, said in (("\x1b[31m", r"has '\\x1b\[31m', which no class"), ("input", "no other column"), ("joy", None)):
        classes = ",".join([*EMOTIONS[:6], name])
        save_file(load_file(golden), tmp_path / "w.safetensors", metadata | {"classes": classes})
        if said is None:
            assert load_checkpoint(tmp_path / "w.safetensors").classes[-1] == "joy"
            continue
        with pytest.raises(WeightsError, match=said):
            load_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.thorough
def test_a_class_named_like_a_formula_of_matplotlib():
    r"""A class may be called `$\frac$`: figures write it as it is."""
    assert b"<svg" in figures.curves([1, 2], {r"$\frac$": [0.5, 0.6]}, axis="share").svg


def test_one_line_escapes_what_does_not_print():
    """Exactly the categories of Unicode that are not letters, marks, numbers, signs or the space."""
    everything = "".join(map(chr, range(0x3000)))
    shown = one_line(everything)

    assert shown.isprintable()
    assert one_line("\N{FAMILY} é 表 \\") == "\N{FAMILY} é 表 \\"
    assert one_line("\n\x1b\x9b\u202e\udcff\u2028") == r"\n\x1b\x9b\u202e\udcff\u2028"
    assert all(unicodedata.category(each)[0] not in "C" for each in shown)
