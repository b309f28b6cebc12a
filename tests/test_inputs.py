"""Everything people have, through one engine: however the same pictures are named, the rows are the same."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import av
import polars
import psutil
import pyarrow
import pytest
from typer.testing import CliRunner

from motivnet_cli import run as runs
from motivnet_cli.cli import app
from motivnet_cli.config import InputConfig, ModelConfig, OutputConfig, RunConfig
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.records import EMOTIONS, MAX_NAMED_FAILURES
from tests.agreement import assert_same_rows
from tests.pictures import SAMPLE_DATA, cut_short, face_photo
from tests.server import Answer, FileServer

NUM_PICTURES = 12
SAMPLE_FILM = SAMPLE_DATA / "face.mp4"
VALUES = ["face", "face_source", "x1", "y1", "x2", "y2", "detection_score", "emotion", "confidence", *EMOTIONS]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs") / "photos"
    folder.mkdir()
    for number in range(NUM_PICTURES):
        faces = ((100, 120, 60 + number), (240, 120, 70))[: 1 + number % 2]
        face_photo(folder / f"{number:02d}.jpg", size=(340, 240), faces=faces)
    return folder


def annotate(*arguments, stdin=None, code=0):
    command = ["annotate", *map(str, arguments), "--model", "expression-net"]
    run = CliRunner().invoke(app, command, input=stdin, catch_exceptions=False)
    assert run.exit_code == code, run.stderr
    return run


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("expected") / "p.parquet"
    annotate(photos, "--out", out)
    return read_faces(out).select(VALUES)


def tar_of(photos, path, mode):
    with tarfile.open(path, mode) as tar:
        for photo in sorted(photos.iterdir()):
            tar.add(photo, photo.name)
    return [path]


def zip_of(photos, path):
    with zipfile.ZipFile(path, "w") as archive:
        for photo in sorted(photos.iterdir()):
            archive.write(photo, photo.name)
    return [path]


def shards_of(photos, folder):
    """WebDataset shards: pictures with labels beside them, in three tars."""
    size = -(-len(list(photos.iterdir())) // 3)
    for shard in range(3):
        with tarfile.open(folder / f"shard-{shard:03d}.tar", "w") as tar:
            for photo in sorted(photos.iterdir())[shard * size : shard * size + size]:
                tar.add(photo, photo.name)
                label = tarfile.TarInfo(photo.stem + ".cls")
                label.size = 1
                tar.addfile(label, io.BytesIO(b"1"))
    return [folder / "shard-{000..002}.tar"]


def csv_of(photos, path):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "subject"])
        rows.writerows([photo, f"s{photo.stem}"] for photo in sorted(photos.iterdir()))
    return ["--manifest", path, "--path-column", "image"]


def parquet_of(photos, path):
    polars.DataFrame({"path": [str(photo) for photo in sorted(photos.iterdir())]}).write_parquet(path)
    return ["--manifest", path]


WAYS = {
    "glob": lambda photos, tmp: [photos / "*.jpg"],
    "files": lambda photos, tmp: sorted(photos.iterdir()),
    "csv": lambda photos, tmp: csv_of(photos, tmp / "m.csv"),
    "parquet": lambda photos, tmp: parquet_of(photos, tmp / "m.parquet"),
    "tar": lambda photos, tmp: tar_of(photos, tmp / "a.tar", "w"),
    "tar.gz": lambda photos, tmp: tar_of(photos, tmp / "a.tar.gz", "w:gz"),
    "zip": lambda photos, tmp: zip_of(photos, tmp / "a.zip"),
    "webdataset": lambda photos, tmp: shards_of(photos, tmp),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_pictures_give_the_same_rows(photos, expected, tmp_path, way):
    """By folder, pattern, manifest, archive or shards: the same rows in the same order."""
    annotate(*WAYS[way](photos, tmp_path), "--out", tmp_path / "p.parquet")
    inputs = read_inputs(tmp_path / "p.parquet")

    assert_same_rows(read_faces(tmp_path / "p.parquet").select(VALUES), expected)
    assert inputs.filter(polars.col("kind").cast(str) == "image")["input"].n_unique() == NUM_PICTURES
    assert set(inputs["status"]) == {"ok"}


@pytest.mark.parametrize(
    ("option", "end"), [(["-"], "\n"), (["--files-from", "-"], "\n"), (["--files0-from", "-"], "\0")]
)
def test_lists_on_stdin(photos, expected, tmp_path, option, end):
    """A list of names on stdin, by lines or by NUL bytes."""
    names = "".join(f"{photo}{end}" for photo in sorted(photos.iterdir()))
    annotate(*option, "--out", tmp_path / "p.parquet", stdin=names)

    assert_same_rows(read_faces(tmp_path / "p.parquet").select(VALUES), expected)


def test_pictures_behind_urls(photos, expected, tmp_path):
    """Pictures and an archive from a real HTTP server; one that is not there is listed, with the reason."""
    (archive,) = tar_of(photos, tmp_path / "a.tar", "w")
    with FileServer() as server:
        urls = [server.on(f"/{photo.name}", Answer(photo.read_bytes())) for photo in sorted(photos.iterdir())]
        annotate(*urls, "--out", tmp_path / "p.parquet")
        annotate(server.on("/a.tar", Answer(archive.read_bytes())), "--out", tmp_path / "a.parquet")
        annotate(*urls[:1], server.on("/gone.jpg", Answer(status=404)), "--out", tmp_path / "g.parquet", code=3)

    assert_same_rows(read_faces(tmp_path / "p.parquet").select(VALUES), expected)
    assert_same_rows(read_faces(tmp_path / "a.parquet").select(VALUES), expected)
    assert read_inputs(tmp_path / "g.parquet")["error_type"].to_list() == [None, "not_found"]


def test_secrets_of_urls_stay_out_of_the_output(photos, tmp_path):
    """User, password and token of a URL open the picture, and appear neither in the output nor on stderr."""
    with FileServer() as server:
        url = server.on("/a.jpg", Answer(sorted(photos.iterdir())[0].read_bytes()))
        secret = url.replace("http://", "http://user:sesame@") + "?token=opensesame"
        command = [sys.executable, "-m", "motivnet_cli", "annotate", secret, "--model", "expression-net"]
        out = tmp_path / "p.parquet"
        run = subprocess.run([*command, "--out", str(out)], capture_output=True, timeout=300, check=False)
    written = out.read_bytes() + (tmp_path / "p.inputs.parquet").read_bytes()

    assert run.returncode == 0, run.stderr
    assert b"sesame" not in written + run.stdout + run.stderr
    assert read_inputs(out)["status"].to_list() == ["ok"]


def test_members_are_named_by_their_archive(photos, tmp_path):
    """A member is `archive/member`, belongs to its archive, and the archive itself is listed after it."""
    tar_of(photos, tmp_path / "a.tar", "w")
    annotate(tmp_path / "a.tar", "--out", tmp_path / "p.parquet")
    inputs = read_inputs(tmp_path / "p.parquet")

    assert inputs["input"].to_list()[0] == f"{tmp_path / 'a.tar'}/00.jpg"
    assert inputs["archive"].to_list() == [*[str(tmp_path / "a.tar")] * NUM_PICTURES, None]
    assert inputs.select("kind", "status", "frames").row(-1) == ("archive", "ok", NUM_PICTURES)


def test_broken_archive_keeps_what_came_before(photos, tmp_path):
    """A tar that is cut short is `partial`: the members before the break have their rows."""
    tar_of(photos, tmp_path / "whole.tar", "w")
    cut_short(tmp_path / "whole.tar", tmp_path / "cut.tar", part=0.5)
    annotate(tmp_path / "cut.tar", "--out", tmp_path / "p.parquet", "--max-failures", "1")
    inputs = read_inputs(tmp_path / "p.parquet")
    archive = inputs.filter(inputs["archive"].is_null()).row(0, named=True)

    assert archive["status"] == "partial"
    assert archive["error"]
    assert 2 <= inputs["status"].to_list().count("ok") < NUM_PICTURES
    assert len(read_faces(tmp_path / "p.parquet")) >= 2


def test_given_boxes_and_kept_columns(photos, tmp_path):
    """A manifest's boxes are the faces, and its other columns pass through with their types."""
    name = str(sorted(photos.iterdir())[0])
    table = {
        "path": [name, name],
        "x1": [60, 10],
        "y1": [80, 20],
        "x2": [140, 50],
        "y2": [160, 60],
        "subject": ["b", "a"],
    }
    polars.DataFrame({**table, "age": [31, 27]}).write_csv(tmp_path / "m.csv")
    annotate("--manifest", tmp_path / "m.csv", "--keep", "subject", "--keep", "age", "--out", tmp_path / "p.parquet")
    faces = read_faces(tmp_path / "p.parquet")

    assert faces.select("x1", "y1", "x2", "y2", "face_source", "subject", "age").rows() == [
        (10.0, 20.0, 50.0, 60.0, "given", "a", 27),
        (60.0, 80.0, 140.0, 160.0, "given", "b", 31),
    ]


def test_rows_to_stdout_as_json_lines(photos, expected):
    """--out - writes one JSON object a face, and nothing else, to stdout."""
    run = annotate(photos, "--out", "-", "--embeddings", "none")
    rows = [json.loads(line) for line in run.stdout.splitlines()]

    assert [row["emotion"] for row in rows] == expected["emotion"].to_list()
    assert "embedding" not in rows[0]
    assert f"{len(expected)}" in run.stderr


def test_rows_to_stdout_as_arrow(photos, expected):
    """--format arrow writes an Arrow stream that pyarrow reads, embeddings included."""
    run = annotate(photos, "--out", "-", "--format", "arrow")
    table = pyarrow.ipc.open_stream(run.stdout_bytes).read_all()

    assert table.num_rows == len(expected)
    assert table.schema.field("embedding").type.list_size == 256
    assert json.loads(table.schema.metadata[b"motivnet"])["model"] == "expression-net"


@pytest.mark.parametrize("stream_format", ["jsonl", "arrow"])
@pytest.mark.parametrize("packed", [True, False])
def test_rows_to_stdout_that_are_stopped_midway_are_not_whole(photos, tmp_path, packed, stream_format):
    """An archive counts once, when it has ended: a run that is stopped in the middle of it says so."""
    archive_of(tmp_path / "a.zip", [(photo.name, photo.read_bytes()) for photo in sorted(photos.iterdir())])
    config = RunConfig(
        inputs=InputConfig(paths=(str(tmp_path / "a.zip" if packed else photos),)),
        model=ModelConfig(name="expression-net", batch_size=1),
        output=OutputConfig(path="-", stream_format=stream_format),
    )
    seen = []
    summary = runs.annotate(config, progress=seen.append, stop=lambda: len(seen) > 1, pipe=io.BytesIO())
    whole = runs.annotate(config, pipe=io.BytesIO())

    assert summary.stopped
    assert 0 < summary.faces < whole.faces
    assert summary.done < (1 if packed else NUM_PICTURES)
    assert not whole.stopped
    assert (whole.done, whole.inputs) == ((1, 1) if packed else (NUM_PICTURES, NUM_PICTURES))


def test_rows_to_stdout_beside_many_failures(tmp_path):
    """There is no table in which the rest of them is listed: their number is said."""
    for number in range(MAX_NAMED_FAILURES + 3):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
    run = annotate(tmp_path, "--out", "-", code=3)

    assert run.stdout == ""
    assert run.stderr.count("failed: ") == MAX_NAMED_FAILURES
    assert "and 3 more\n" in run.stderr


def test_reader_that_has_enough(photos):
    """`| head -1` ends quietly, with no word on stderr of the pipe."""
    command = (
        f"{sys.executable} -m motivnet_cli annotate {photos} --model expression-net --batch-size 1 --out - --quiet"
    )
    script = f"{command} --embeddings none | head -1; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)["input"] == "00.jpg"


def test_dry_run_counts_and_does_nothing(photos, tmp_path):
    """--dry-run says how many of each kind, and makes no output."""
    tar_of(photos, tmp_path / "a.tar", "w")
    run = annotate(photos, tmp_path / "a.tar", "--out", tmp_path / "p.parquet", "--dry-run", "--json")

    assert json.loads(run.stdout)["counts"] == {"image": NUM_PICTURES, "archive": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_extend(photos, tmp_path):
    """--extend adds a new picture, and does the unchanged ones not again."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in sorted(photos.iterdir())[:2]:
        shutil.copy(photo, folder)
    annotate(folder, "--out", tmp_path / "p.parquet")
    shutil.copy(sorted(photos.iterdir())[2], folder / "new.jpg")
    run = annotate(folder, "--out", tmp_path / "p.parquet", "--extend", "--json")

    assert json.loads(run.stdout)["faces_predicted"] == 1
    assert read_inputs(tmp_path / "p.parquet")["input"].to_list() == ["00.jpg", "01.jpg", "new.jpg"]


@pytest.mark.slow
def test_killed_inside_archives(photos, tmp_path):
    """SIGKILL within tars, resumed with other batch sizes: the rows of an undisturbed run."""
    big = tmp_path / "big.tar"
    with tarfile.open(big, "w") as tar:
        for turn in range(6):
            for photo in sorted(photos.iterdir()):
                tar.add(photo, f"{turn:02d}/{photo.name}")
    command = [sys.executable, "-m", "motivnet_cli", "annotate", str(big), "--model", "expression-net"]
    subprocess.run([*command, "--out", str(tmp_path / "whole.parquet")], check=True, capture_output=True, timeout=300)
    out = tmp_path / "killed.parquet"
    kills = 0
    for batch_size in (1, 3, 8):
        options = ["--out", str(out), "--commit-seconds", "0", "--batch-size", str(batch_size)]
        process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
        parts = Path(f"{out}.work") / "inputs"
        before = len(list(parts.glob("part-*")))
        while process.poll() is None and len(list(parts.glob("part-*"))) < before + 3:
            time.sleep(0.005)
        process.kill()
        kills += process.wait() != 0
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, timeout=300)

    assert kills == 3
    assert_same_rows(out, tmp_path / "whole.parquet")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Four seconds of a face, the index in front so that a cut leaves the rest readable."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(SAMPLE_FILM)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return path


def test_video_with_times_and_tracks(film, tmp_path):
    """A video gives rows with frame numbers and times, one input row, and one track for its one person."""
    annotate(film, "--fps", 5, "--track", "--out", tmp_path / "p.parquet")
    faces, inputs = read_faces(tmp_path / "p.parquet"), read_inputs(tmp_path / "p.parquet")

    assert faces["frame"].to_list() == list(range(0, 100, 5))
    assert faces["time_s"].to_list() == pytest.approx([n / 5 for n in range(20)], abs=1e-3)
    assert set(faces["track"]) == {0}
    assert inputs.select("kind", "status", "frames", "faces").rows() == [("video", "ok", 20, 20)]


def test_broken_video_keeps_what_came_before(film, tmp_path):
    """A video that breaks midway is `partial`, with the reason; its rows so far stay."""
    content = bytearray(film.read_bytes())
    middle = len(content) // 2
    content[middle:] = bytes(len(content) - middle)  # the index is in front
    (tmp_path / "broken.mp4").write_bytes(content)
    annotate(tmp_path / "broken.mp4", "--frames", "all", "--out", tmp_path / "p.parquet")
    (row,) = read_inputs(tmp_path / "p.parquet").iter_rows(named=True)

    assert (row["status"], row["error_type"]) == ("partial", "damaged")
    assert 0 < row["faces"] == len(read_faces(tmp_path / "p.parquet")) < 100


@pytest.mark.slow
def test_killed_inside_videos(film, tmp_path):
    """SIGKILL within a video, resumed with other batch sizes: the rows of an undisturbed run, tracks included."""
    command = [sys.executable, "-m", "motivnet_cli", "annotate", str(film), "--model", "expression-net"]
    command += ["--frames", "all", "--track", "--out"]
    subprocess.run([*command, str(tmp_path / "whole.parquet")], check=True, capture_output=True, timeout=300)
    out = tmp_path / "killed"
    kills = 0
    for batch_size in (1, 3, 8):
        options = ["--commit-seconds", "0", "--batch-size", str(batch_size)]
        process = subprocess.Popen([*command, str(out), *options], stderr=subprocess.DEVNULL)
        parts = out / "inputs"
        before = len(list(parts.glob("part-*")))
        while process.poll() is None and len(list(parts.glob("part-*"))) < before + 2:
            time.sleep(0.002)
        process.kill()
        kills += process.wait() != 0
    subprocess.run([*command, str(out)], check=True, capture_output=True, timeout=300)

    assert kills == 3
    assert_same_rows(out, tmp_path / "whole.parquet")


@pytest.mark.parametrize(("faces", "count"), [("1", 1), ("2", 2), ("9", 3)])
def test_largest_faces(tmp_path, faces, count):
    """--max-faces keeps so many, the largest, still from left to right."""
    face_photo(tmp_path / "three.jpg", size=(900, 300), faces=((150, 150, 90), (450, 150, 130), (750, 150, 110)))
    annotate(tmp_path / "three.jpg", "--max-faces", faces, "--out", tmp_path / "p.parquet")
    found = read_faces(tmp_path / "p.parquet")
    middles = [(row["x1"] + row["x2"]) / 2 for row in found.iter_rows(named=True)]

    assert [round(middle / 150) for middle in middles] == {1: [3], 2: [3, 5], 3: [1, 3, 5]}[count]


def test_extend_by_content(photos, tmp_path):
    """With --hash a touched file is unchanged, and one with other bytes of the same size and time is not."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in sorted(photos.iterdir())[:2]:
        shutil.copy(photo, folder)
    annotate(folder, "--hash", "--out", tmp_path / "p.parquet")
    touched, other = sorted(folder.iterdir())
    os.utime(touched, ns=(1, 1))
    before = other.stat()
    content = bytearray(other.read_bytes())
    content[-2:] = b"\xff\xd8"
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    run = annotate(folder, "--hash", "--out", tmp_path / "p.parquet", "--extend", "--max-failures", "1", "--json")

    assert json.loads(run.stdout)["faces_predicted"] in (0, 2)
    statuses = dict(read_inputs(tmp_path / "p.parquet").select("input", "sha256").rows())
    assert statuses["01.jpg"] == hashlib.sha256(content).hexdigest()


def test_a_stop_does_not_wait_for_a_video_that_is_still_coming(photos, film, tmp_path):
    """A server that says nothing more would hold it up for its time-out, and for that of every new try."""
    seen = []
    with FileServer() as server:
        url = server.on("/film.mp4", Answer(film.read_bytes(), stall_after=100_000))
        config = RunConfig(
            inputs=InputConfig(paths=(str(sorted(photos.iterdir())[0]), url)),
            model=ModelConfig(name="expression-net", batch_size=1),
            output=OutputConfig(path=str(tmp_path / "p.parquet")),
        )
        summary = runs.annotate(config, progress=seen.append, stop=lambda: bool(seen and server.requests))
        requests = len(server.requests)
        server.on("/film.mp4", Answer(film.read_bytes()))

        assert summary.stopped
        assert requests == 1
        assert not runs.annotate(config).stopped
    assert read_inputs(tmp_path / "p.parquet")["status"].to_list() == ["ok", "ok"]


def test_pipe_that_blocks_slows_the_run(photos, tmp_path):
    """While nobody reads, the run waits and does nothing; then every row comes, in order."""
    for turn in range(10):
        for photo in sorted(photos.iterdir()):
            shutil.copy(photo, tmp_path / f"{turn}-{photo.name}")
    command = [sys.executable, "-m", "motivnet_cli", "annotate", str(tmp_path), "--model", "expression-net"]
    run = subprocess.Popen([*command, "--out", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process = psutil.Process(run.pid)
    begun = os.read(run.stdout.fileno(), 1)
    busy = [-1.0, process.cpu_times().user]
    while busy[-1] > busy[-2]:
        time.sleep(0.5)
        busy.append(process.cpu_times().user)
    was_waiting = run.poll() is None
    rows = (begun + run.communicate(timeout=300)[0]).decode().splitlines()

    assert was_waiting
    assert [json.loads(row)["input"] for row in rows] == sorted(json.loads(row)["input"] for row in rows)
    assert len(rows) == 180


@pytest.mark.slow
def test_many_pictures_every_way(photos, tmp_path):
    """Hundreds of pictures by every way: the same rows. (Taken whole: finding faces is what takes the time.)"""
    whole = ("--faces", "whole")
    many = tmp_path / "many"
    many.mkdir()
    originals = sorted(photos.iterdir())
    for number in range(300):
        shutil.copy(originals[number % NUM_PICTURES], many / f"{number:04d}.jpg")
    annotate(many, *whole, "--out", tmp_path / "folder.parquet")
    rows = read_faces(tmp_path / "folder.parquet").select(VALUES)
    for way in set(WAYS) - {"files"}:
        annotate(*WAYS[way](many, tmp_path), *whole, "--out", tmp_path / f"{way}.parquet")

        assert_same_rows(read_faces(tmp_path / f"{way}.parquet").select(VALUES), rows)
    names = sorted(map(str, many.iterdir()))
    for option, end in (("-", "\n"), ("--files0-from=-", "\0")):
        annotate(option, *whole, "--out", tmp_path / "list.parquet", "--overwrite", stdin=end.join(names))

        assert_same_rows(read_faces(tmp_path / "list.parquet").select(VALUES), rows)
    with FileServer() as server:
        urls = [server.on(f"/{Path(name).name}", Answer(Path(name).read_bytes())) for name in names]
        annotate("--files-from", "-", *whole, "--out", tmp_path / "url.parquet", stdin="\n".join(urls))

        assert_same_rows(read_faces(tmp_path / "url.parquet").select(VALUES), rows)


def test_retry_takes_up_an_archive_with_a_failed_member(photos, tmp_path):
    """--retry-failed reads an archive again when one of its members had failed, and leaves the others alone."""
    pictures = sorted(photos.iterdir())
    whole = [(photo.name, photo.read_bytes()) for photo in pictures[:4]]
    for name in ("a", "b"):
        broken = [(m, content[:200] if (name, m) == ("b", "02.jpg") else content) for m, content in whole]
        archive_of(tmp_path / f"{name}.zip", broken)
    inputs = tmp_path / "a.zip", tmp_path / "b.zip"
    annotate(*inputs, "--out", tmp_path / "p.parquet", code=3)
    archive_of(tmp_path / "b.zip", whole)

    run = annotate(*inputs, "--out", tmp_path / "p.parquet", "--retry-failed", "--json")
    annotate(*inputs, "--out", tmp_path / "q.parquet")

    assert_same_rows(tmp_path / "p.parquet", tmp_path / "q.parquet")
    assert set(read_inputs(tmp_path / "p.parquet")["status"]) == {"ok"}
    assert json.loads(run.stdout)["faces_predicted"] < read_faces(tmp_path / "q.parquet").height


def archive_of(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
