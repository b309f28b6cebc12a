"""The hash of a weights file is found while it is loaded, once for each state of the file, and never a false one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from motivnet_cli.errors import WeightsError
from motivnet_cli.weights import file_hash
from motivnet_cli.weights.file_hash import FileHash, PendingHash, file_state
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.store import Store

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
CONTENT = b"weights " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FALSE = "f" * 64


@pytest.fixture
def hashings(monkeypatch):
    """The files that are hashed from here on; hashes are kept of small files, and of new ones, too."""
    found = []

    def sha256_of(path):
        found.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(file_hash, "sha256_of", sha256_of)
    monkeypatch.setattr(file_hash, "_MIN_KEPT_BYTES", 0)
    monkeypatch.setattr(file_hash, "_SETTLED_NS", 0)
    return found


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir(mode=0o755)
    path = folder / "w.pth"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "store" / "cache" / "hashes"


def hash_of(path, cache=None, known=None):
    pending = PendingHash(path, known=known, cache=cache)
    pending.start()
    return pending.result().sha256


def beside(path):
    return path.with_name(f"{path.name}.sha256.json")


def forge(place, path):
    """A false hash of the file as it is now, in the very form in which one is kept."""
    place.write_text(file_hash._text_of(FileHash(FALSE, file_state(path))))


def test_a_kept_hash_is_for_people_too(hashings, weights):
    """It lies beside the file, and names the hash, size, times and inode."""
    hash_of(weights)
    kept, status = json.loads(beside(weights).read_text()), weights.stat()

    assert kept["sha256"] == SHA256
    assert (kept["inode"], kept["size"], kept["mtime_ns"]) == (status.st_ino, len(CONTENT), status.st_mtime_ns)


def test_the_next_process_does_not_hash(hashings, weights, cache):
    """Also by way of a link."""
    hash_of(weights, cache)
    link = weights.parent.parent / "link.pth"
    link.symlink_to(weights)

    assert hash_of(weights, cache) == hash_of(link, cache) == SHA256
    assert len(hashings) == 1
    assert not cache.exists()


def test_it_is_the_kept_hash_that_is_taken(hashings, weights):
    """What the refusals below refuse is believed where nothing is wrong with it."""
    forge(beside(weights), weights)

    assert hash_of(weights) == FALSE


def rewrite(path):
    """Other bytes, as many as before, under the old time of change."""
    times = path.stat()
    with path.open("r+b") as file:
        file.write(b"W")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(path):
    """Another file of the same size and time in its place."""
    times = path.stat()
    new = path.with_suffix(".new")
    new.write_bytes(b"W" + CONTENT[1:])
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(path)


@pytest.mark.parametrize("change", [rewrite, replace])
@pytest.mark.parametrize("place", ["beside", "cache"])
def test_a_file_that_changed_is_hashed_again(hashings, weights, cache, change, place):
    """Size and time may be the same: then inode or time of status tell. The new hash takes the old one's place."""
    if place == "cache":
        weights.parent.chmod(0o777)
    hash_of(weights, cache)
    change(weights)
    new = hashlib.sha256(weights.read_bytes()).hexdigest()

    assert new != SHA256
    assert hash_of(weights, cache) == hash_of(weights, cache) == new
    assert len(hashings) == 2


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("change", [replace, lambda path: path.write_bytes(b"x"), Path.unlink])
def test_a_file_that_is_replaced_while_it_is_loaded_is_refused(hashings, weights, change, known):
    """Between the look at the file and the hash it is loaded: the hash would be that of another one."""
    pending = PendingHash(weights, known=FileHash(SHA256, file_state(weights)) if known else None)
    change(weights)
    pending.start()

    with pytest.raises(WeightsError, match=r"was changed while it was read|no weights file"):
        pending.result()
    assert not beside(weights).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: text + "\n",
        lambda text: text.replace(SHA256, SHA256[::-1]),
        lambda text: text.replace(SHA256, SHA256.upper()),
        lambda text: text.replace('"size": 8000', '"size": 8001'),
        lambda text: "[" * 3000,
        lambda text: "\udcff\udcfe" + text,
        lambda text: f'{{"sha256": "{FALSE}"}}',
    ],
)
def test_a_damaged_hash_is_not_believed(hashings, weights, damage):
    """The file is hashed, and the damaged hash replaced."""
    hash_of(weights)
    whole = beside(weights).read_text()
    beside(weights).write_text(damage(whole), errors="surrogateescape")

    assert hash_of(weights) == SHA256
    assert len(hashings) == 2
    assert beside(weights).read_text() == whole


def writable_by_others(path):
    forge(beside(path), path)
    beside(path).chmod(0o666)


def in_a_folder_of_all(path):
    forge(beside(path), path)
    path.parent.chmod(0o777)


def a_link(path):
    forge(path.with_name("forged"), path)
    beside(path).symlink_to(path.with_name("forged"))


def a_pipe(path):
    os.mkfifo(beside(path))


def a_folder(path):
    beside(path).mkdir()


@pytest.mark.parametrize("plant", [writable_by_others, in_a_folder_of_all, a_link, a_pipe, a_folder])
def test_what_another_user_may_have_written_is_not_believed(hashings, weights, plant):
    """Where others can write lies what they like."""
    plant(weights)

    assert hash_of(weights) == SHA256


def test_a_file_of_another_user_is_not_believed(hashings, weights, monkeypatch):
    """Whoever owns it can change it."""
    forge(beside(weights), weights)
    monkeypatch.setattr(file_hash, "is_private", lambda folder: True)
    another = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: another)

    assert hash_of(weights) == SHA256


def long_name(path):
    """The system takes no name that is so long, as it takes none in a read-only folder."""
    return path.rename(path.with_name("w" * 250))


def shared(path):
    path.parent.chmod(0o775)
    return path


@pytest.mark.parametrize("place", [long_name, shared])
def test_a_hash_that_cannot_be_beside_its_file_is_in_the_store(hashings, weights, cache, place):
    """There it is for the user alone, and nothing is written where others read."""
    weights = place(weights)

    assert hash_of(weights, cache) == hash_of(weights, cache) == SHA256
    assert len(hashings) == 1
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("why", ["no place", "an image", "the store of others", "small", "just changed"])
def test_where_nothing_may_be_kept_every_process_hashes(hashings, weights, cache, monkeypatch, why):
    """Two images with the same times and inodes may stand at one place, one after the other."""
    weights.parent.chmod(0o777)
    if why == "no place":
        cache = None
    if why == "an image":
        monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    if why == "the store of others":
        cache.mkdir(parents=True)
        cache.chmod(0o777)
    if why == "small":
        monkeypatch.setattr(file_hash, "_MIN_KEPT_BYTES", len(CONTENT) + 1)
    if why == "just changed":
        monkeypatch.setattr(file_hash, "_SETTLED_NS", 60 * 10**9)

    assert hash_of(weights, cache) == hash_of(weights, cache) == SHA256
    assert len(hashings) == 2
    assert cache is None or not list(cache.glob("*"))


def test_many_processes_at_once(weights):
    """Each has the right hash, and one whole file is left."""
    code = (
        "import sys; from motivnet_cli.weights import file_hash as it; it._MIN_KEPT_BYTES = it._SETTLED_NS = 0\n"
        "pending = it.PendingHash(sys.argv[1]); pending.start(); print(pending.result().sha256, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(weights)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]

    assert [process.communicate()[0] for process in processes] == [f"{SHA256} False\n"] * 4
    assert {path.name for path in weights.parent.iterdir()} == {weights.name, beside(weights).name}
    assert json.loads(beside(weights).read_text())["sha256"] == SHA256


def test_a_file_is_hashed_while_the_caller_goes_on(hashings, weights, monkeypatch):
    """Until somebody asks for the hash."""
    go_on = threading.Event()
    monkeypatch.setattr(file_hash, "sha256_of", lambda path: go_on.wait(60) and SHA256)
    pending = PendingHash(weights)
    pending.start()
    go_on.set()

    assert pending.result().sha256 == SHA256


def test_a_model_is_hashed_once_and_one_of_the_store_never(hashings, tmp_path):
    """`load_model` keeps the hash of a file that is given; a model of the store has that of its source."""
    file = tmp_path / "w.safetensors"
    file.write_bytes(TINY.read_bytes())
    expected = hashlib.sha256(TINY.read_bytes()).hexdigest()

    assert [load_model(weights=str(file)).weights_sha256 for _ in range(2)] == [expected] * 2
    assert len(hashings) == 1

    Store(tmp_path / "store").install("tiny", file=file)
    hashings.clear()
    assert load_model("tiny", store=str(tmp_path / "store")).weights_sha256 == expected
    assert hashings == []
