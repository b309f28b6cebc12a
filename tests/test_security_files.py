"""Files that a stranger made or put somewhere: links, playlists, tables with code in them, names in shared folders."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import pickle
import stat
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import motivnet_cli
from motivnet_cli.config import InputConfig, VideoConfig
from motivnet_cli.durable import TemporaryFolder, durably, is_private, temporary_name
from motivnet_cli.engine.predictor import code_folder
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.source import Source
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.output.read import read_inputs
from motivnet_cli.output.tables import TableWriter
from tests.pictures import SAMPLE_DATA
from tests.runs import motivnet

PACKAGE = Path(motivnet_cli.__file__).parent


# ---- links ------------------------------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path):
    """A folder with links within it and out of it, to files and to folders."""
    root, private = tmp_path / "root", tmp_path / "private"
    (root / "in").mkdir(parents=True)
    private.mkdir()
    for path in (root / "in" / "a.png", private / "secret.png", private / "notes.txt"):
        Image.new("RGB", (8, 8)).save(path, "PNG")
    (root / "b.png").symlink_to("in/a.png")
    (root / "c").symlink_to("in")
    (root / "out.png").symlink_to(private / "secret.png")
    (root / "relative.png").symlink_to("../private/secret.png")
    (root / "twice.png").symlink_to("out.png")
    (root / "through.png").symlink_to("folder/secret.png")
    (root / "folder").symlink_to(private)
    (root / "notes.txt").symlink_to(private / "notes.txt")
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / ".hidden.png").symlink_to(private / "secret.png")
    return root


OUT = ["folder", "gone.png", "out.png", "relative.png", "through.png", "twice.png"]
IN = ["b.png", "c/a.png", "in/a.png"]


def outcome(*paths, **inputs):
    """The names of what is read and of what is refused, and what was passed over."""
    listing = Listing(InputConfig(paths=tuple(map(str, paths)), **inputs))
    items = list(listing)
    refused = [item for item in items if item.problem and item.problem.error_type == "link_leaves_root"]
    return [item.input for item in items if not item.problem], [item.input for item in refused], dict(listing.skipped)


def test_links_out_of_a_folder_are_listed_and_not_followed(linked):
    """Each file and folder is a row that says why; what leads to another place of the folder is read."""
    assert outcome(linked, follow_links=False) == (IN, OUT, {"hidden": 1, ".txt": 1})


def test_links_are_followed_unless_asked(linked):
    assert outcome(linked)[1] == []
    assert {"out.png", "folder/secret.png"} <= set(outcome(linked)[0])


def test_filters_and_no_recursive_come_first(linked):
    """What would not be read anyway is counted as it always is."""
    assert outcome(linked, follow_links=False, recursive=False)[1:] == (
        [name for name in OUT if name != "folder"],
        {"hidden": 1, ".txt": 1, "subfolder": 3},
    )
    assert outcome(linked, follow_links=False, exclude=("folder", "*o*.png", "tw*"))[1] == ["relative.png"]
    assert outcome(linked, follow_links=False, include=("b.png",))[1] == ["folder"]


@pytest.mark.parametrize(
    ("pattern", "found", "refused"),
    [
        ("*.png", ["b.png"], [name for name in OUT if name != "folder"]),
        ("**/*.png", IN, OUT),
        ("*", IN, OUT),
        ("f*", [], ["folder"]),
        ("*/*.png", ["c/a.png", "in/a.png"], ["folder"]),
        ("*/secret.png", [], ["folder"]),
        ("n*.txt", [], ["notes.txt"]),
    ],
)
def test_patterns_do_not_leave_the_folder_that_they_spell_out(linked, pattern, found, refused):
    prefix = f"{linked}/"
    read, barred, _ = outcome(linked / pattern, follow_links=False)

    assert [name.removeprefix(prefix) for name in read] == found
    assert [name.removeprefix(prefix) for name in barred] == refused


def test_what_is_named_itself_is_read(linked, tmp_path):
    """The folder that is given may be a link, and so may a file: the user has named them."""
    (tmp_path / "link").symlink_to(linked)
    assert outcome(tmp_path / "link", follow_links=False)[:2] == (IN, OUT)
    assert outcome(linked / "out.png", follow_links=False)[1] == []


def test_the_command_says_it(linked, tmp_path):
    out = tmp_path / "p.parquet"
    arguments = ("annotate", linked, "--faces", "whole", "--model", "expression-net", "--out", out)
    run = motivnet(*arguments, "--no-follow", code=3)
    inputs = read_inputs(out)
    expected = dict.fromkeys(OUT, "link_leaves_root") | dict.fromkeys(IN)

    assert dict(zip(inputs["input"], inputs["error_type"], strict=True)) == expected
    assert "folder: a symbolic link out of the given folder" in run.stderr
    assert "inputs.follow_links was False" in motivnet(*arguments, code=2).stderr


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_links_of_an_archive_stay_in_it(kind, tmp_path):
    """A link to a file of this machine gives no byte of it, however it is written."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    targets = [str(secret), "../secret.png", "./../secret.png", "x/../../secret.png", secret.as_uri(), "/etc/passwd"]
    path = tmp_path / "in" / f"a.{kind}"
    path.parent.mkdir()
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            for number, target in enumerate(targets * 2):
                entry = tarfile.TarInfo(f"{number}.png")
                entry.type = tarfile.SYMTYPE if number < len(targets) else tarfile.LNKTYPE
                entry.linkname = target
                archive.addfile(entry)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for number, target in enumerate(targets):
                entry = zipfile.ZipInfo(f"{number}.png")
                entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                archive.writestr(entry, target)
    members = list(Archive(str(path)))

    assert len(members) == len(targets) * (2 if kind == "tar" else 1)
    assert {member.data for member in members} == {b""}
    assert {member.problem.error_type for member in members} == {"broken_link"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == [f"a.{kind}", "in", "secret.png"]


# ---- videos that name other files -------------------------------------------------------------------------

PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{secret}\n#EXT-X-ENDLIST\n",
    "hls of a server": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:1/x.ts\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    "<Representation><BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


@pytest.mark.parametrize(
    ("kind", "ending"), [*((kind, "mp4") for kind in PLAYLISTS), ("hls", "m3u8"), ("concat", "ts")]
)
def test_a_video_names_no_other_file(kind, ending, tmp_path):
    """FFmpeg reads lists of files and addresses: whoever made one would choose what this machine reads."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes((SAMPLE_DATA / "face.mp4").read_bytes())
    path = tmp_path / f"list.{ending}"
    path.write_text(PLAYLISTS[kind].format(secret=secret.as_uri()))
    with pytest.raises(InputError) as caught:
        list(VideoReader(str(path), VideoConfig(), max_pixels=1 << 24))

    assert caught.value.error_type == "unsupported"
    assert "a playlist" in str(caught.value)


def test_the_name_of_a_video_is_no_protocol(tmp_path, monkeypatch):
    """`concat:a|b` and the like are commands to FFmpeg; here they are names of files."""
    monkeypatch.chdir(tmp_path)
    for name in ("concat:secret.mp4", "pipe:0"):
        Path(name).write_bytes((SAMPLE_DATA / "face.mp4").read_bytes())
        assert len(list(VideoReader(name, VideoConfig(), max_pixels=1 << 24))) == 4


# ---- code in data -----------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_table_runs_no_code(tmp_path):
    """Arrow once unpickled the types of columns: as a manifest, a table of pictures, or predictions, none does."""
    sprung, path = tmp_path / "sprung", tmp_path / "m.parquet"
    code = pickle.dumps(Bomb(sprung), protocol=0)  # text, as which metadata is read
    live = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": code}
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    columns = {"input": ["a.jpg"], "image": [content.getvalue()], "emotion": ["anger"], "path": ["a.jpg"]}
    table = pa.table(columns)
    fields = [pa.field(name, table.schema.field(name).type, metadata=live) for name in columns]
    pq.write_table(table.cast(pa.schema(fields, metadata=live)), path)
    assert b"py_extension_type" in path.read_bytes()

    for read in (
        lambda: list(Listing(InputConfig(manifests=(str(path),), keep=("emotion",)))),
        lambda: CellReader().read(str(path), "image", 0),
        lambda: list(Source(path).batches()),
        lambda: Source(path).lazy().collect(),
    ):
        with contextlib.suppress(ConfigError, InputError, pl.exceptions.PolarsError):  # refused is as good
            read()
    assert not sprung.exists()
    pickle.loads(code)
    assert sprung.exists()


_UNSAFE_IMPORTS = {
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "yaml",
    "pty",
    "commands",
    "xmlrpc",
    "telnetlib",
}
_UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.tempnam", "tempfile.mktemp"}
_UNSAFE_CALLS |= {"np.load", "numpy.load", "torch.jit.load", "torch.hub.load", "pl.LazyFrame.deserialize"}
_UNSAFE_METHODS = {"extractall", "extract", "unpack_archive", "read_pickle", "to_pickle", "Unpickler"}
_OUR_OWN = {
    ("pickle.loads", "scale/local_worker.py"): "settings that the driver on this machine writes into a pipe of its own",
    ("pickle.loads", "scale/ray_worker.py"): "settings that the driver hands to its actors",
    ("subprocess", "children.py"): "starts this interpreter",
}


def unsafe(text):
    """What a module does that may run what is in data, or a shell."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] in {*_UNSAFE_IMPORTS, "subprocess"})
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in _UNSAFE_CALLS or name.startswith(("os.exec", "os.spawn")) or name.split(".")[-1] in _UNSAFE_METHODS:
            yield name
        if name in ("pickle.load", "pickle.loads") or (
            name == "torch.load" and arguments.get("weights_only") != "True"
        ):
            yield name
        if arguments.get("shell", "False") != "False" or arguments.get("allow_pickle", "False") != "False":
            yield name
        if "trust_remote_code" in arguments or (name == "importlib.import_module" and not _is_fixed(node.args[0])):
            yield name


def _is_fixed(node):
    """Whether a module's name is a text of the code, or one of our own modules."""
    return isinstance(node, ast.Constant) or ast.unparse(node).startswith("f'{__name__}.")


def test_nothing_unpickles_or_starts_a_shell():
    """The few places that may are named here with the reason."""
    found = {
        (what, path.relative_to(PACKAGE).as_posix())
        for path in PACKAGE.rglob("*.py")
        for what in unsafe(path.read_text())
    }

    assert found == set(_OUR_OWN)


@pytest.mark.parametrize(
    "text",
    [
        "pickle.load(f)", "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p)", "eval(x)", "exec(x)",
        "np.lib.format.read_array(f, allow_pickle=True)", "import yaml", "from joblib import load", "os.system(x)",
        "run(x, shell=True)", "tar.extractall()", "tempfile.mktemp()", "importlib.import_module(name)",
        "os.execv(a, b)", "import subprocess", "pickle.Unpickler(f).load()",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_rule_sees(text):
    assert list(unsafe(text))


# ---- temporary files --------------------------------------------------------------------------------------


def test_a_temporary_folder_is_private(tmp_path, monkeypatch):
    """Nobody else can look into it or foretell its name, whatever the umask."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = os.umask(0)
    try:
        folders = [TemporaryFolder() for _ in range(3)]
    finally:
        os.umask(before)

    assert {stat.S_IMODE(folder.path.stat().st_mode) for folder in folders} == {0o700}
    assert all(is_private(folder.path) for folder in folders)
    assert len({folder.path for folder in folders}) == 3


@pytest.mark.parametrize("writer", ["durably", "table"])
def test_a_planted_link_is_replaced(writer, tmp_path):
    """Beside an output stands a temporary name that anybody can foretell: what a link by that name leads to stays."""
    thesis, final = tmp_path / "thesis.txt", tmp_path / "out" / "p.parquet"
    thesis.write_text("five years")
    final.parent.mkdir()
    temporary_name(final).symlink_to(thesis)
    if writer == "durably":
        with durably(final) as temporary:
            temporary.write_bytes(b"rows")
    else:
        schema = pa.schema([pa.field("x", pa.int64())])
        with TableWriter(temporary_name(final), schema) as table:
            table.add(pa.table({"x": [1]}, schema))

    assert thesis.read_text() == "five years"
    assert not temporary_name(final).is_symlink()
    assert not final.is_symlink()


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o027, 0o640)])
def test_outputs_have_the_mode_that_the_user_wants(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        with durably(tmp_path / "a") as temporary:
            temporary.write_bytes(b"rows")
        with TableWriter(tmp_path / "b", pa.schema([pa.field("x", pa.int64())])):
            pass
    finally:
        os.umask(before)

    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"} == {mode}


def test_whose_folder_is_private(tmp_path, monkeypatch):
    """Compiled code is read from no folder that others can write, or have made."""
    folder = tmp_path / "x"
    folder.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(folder)

    assert is_private(folder)
    assert not is_private(tmp_path / "link")
    assert not is_private(tmp_path / "nowhere")
    for mode in (0o770, 0o707, 0o777):
        folder.chmod(mode)
        assert not is_private(folder)
    folder.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert not is_private(folder)


def test_where_compiled_code_is_kept(tmp_path):
    """torch runs what it finds there: in the store only if nobody else can write the folder, never below /tmp."""
    own = code_folder(tmp_path / "store")
    assert own.parent == tmp_path / "store" / "compiled"
    assert is_private(own)
    assert code_folder(tmp_path / "store") == own
    own.chmod(0o770)
    (tmp_path / "file").touch()
    for cache in (tmp_path / "store", tmp_path / "file", None):
        temporary = code_folder(cache)
        assert isinstance(temporary, TemporaryFolder)
        assert is_private(temporary.path)
