"""Items -> batches: full, in order, complete, whatever the threads."""

from __future__ import annotations

import queue
import threading
from unittest import mock

import numpy as np
import pytest

from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig, OutputConfig, RunConfig, VideoConfig
from motivnet_cli.engine import loader, prepare
from motivnet_cli.engine.predictor import Predictor
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.engine.work import work
from motivnet_cli.faces.crop import Cropping
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.records import Cursor, Position, Todo, never
from motivnet_cli.weights.load import load_model
from tests.pictures import face_photo


@pytest.fixture(scope="module")
def model():
    return load_model("expression-net")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine inputs: three faces, one face, a broken file, three times over."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(9):
        path = folder / f"{number}.png"
        if number % 3 == 0:
            face_photo(path, size=(600, 240), faces=((100, 120, 90), (300, 120, 100), (500, 120, 110)))
        elif number % 3 == 1:
            face_photo(path, size=(320, 240), faces=((160, 120, 100 + number),))
        else:
            path.write_bytes(b"text")
    return folder


def batches(photos, model, *, batch_size=4, num_threads=2, stop=never, mode="detect"):
    return list(
        loader.load(
            (Todo(item, Cursor(Position(item.index))) for item in Listing([str(photos)])),
            Preparer(model, FaceConfig(mode=mode), VideoConfig(), LoaderConfig()),
            num_threads=num_threads,
            batch_size=batch_size,
            stop=stop,
        )
    )


def faces_of(loaded):
    return [(crop.input, crop.number, crop.pixels.tobytes()) for batch in loaded for crop in batch.crops]


def reports_of(loaded):
    return [report for batch in loaded for report in batch.finished]


def test_batches_are_full_across_files(photos, model):
    """Twelve faces of nine files: every batch but the last is full."""
    assert [len(batch.crops) for batch in batches(photos, model, batch_size=5)] == [5, 5, 2]


def test_every_input_is_reported_once_in_order(photos, model):
    """Each input ends in exactly one report, in plan order, with its counts and size."""
    reports = reports_of(batches(photos, model))

    assert [report.position.item for report in reports] == list(range(9))
    assert [report.status for report in reports] == ["ok", "ok", "failed"] * 3
    assert [report.num_faces for report in reports] == [3, 1, 0] * 3
    assert (reports[0].width, reports[0].height) == (600, 240)
    assert reports[2].problem.error_type == "not_an_image"


def test_a_report_never_comes_before_its_faces(photos, model):
    """When an input is reported, all its faces have been handed out: else a commit could lose some."""
    seen = 0
    for batch in batches(photos, model, batch_size=2):
        seen += len(batch.crops)
        reported = sum(report.num_faces for report in batch.finished)
        seen -= reported
        assert seen >= 0


@pytest.mark.parametrize(("batch_size", "num_threads"), [(1, 1), (3, 4), (64, 2)])
def test_faces_do_not_depend_on_batch_size_or_threads(photos, model, batch_size, num_threads):
    """The same faces with the same pixels, in the same order."""
    assert faces_of(batches(photos, model, batch_size=batch_size, num_threads=num_threads)) == faces_of(
        batches(photos, model)
    )


def test_a_crowd_beyond_what_is_cropped_ahead(photos, model, monkeypatch):
    """Faces that are cropped only as the batch takes them are the same faces."""
    expected = faces_of(batches(photos, model))
    monkeypatch.setattr(prepare, "MAX_READY_FACES", 1)

    assert faces_of(batches(photos, model)) == expected


def test_a_spent_budget_stops_the_reading(photos, model, monkeypatch):
    """Where no piece may wait, inputs are still read one at a time, to the end."""
    expected = faces_of(batches(photos, model))
    monkeypatch.setattr(loader, "MAX_HELD_BYTES", 1)

    assert faces_of(batches(photos, model)) == expected


def test_a_reader_that_has_waited_reads_several_pieces():
    """It is not woken for each piece that goes, but when a quarter of them is free."""
    budget = loader.Budget(max_pieces=8, max_bytes=100)
    for _ in range(8):
        assert budget.acquire(1)
    held, seen = [8], []
    reader = threading.Thread(target=lambda: budget.acquire(1) and seen.append(held[0]))
    reader.start()
    while not seen and held[0]:
        reader.join(0.05)  # time enough to go on too early
        held[0] -= 1
        budget.release(1)
    reader.join()

    assert seen == [5]


@pytest.mark.parametrize("max_pieces", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("sizes", [[1], [60, 1, 200, 50]])
def test_whatever_the_budget_all_pieces_pass_and_no_more_than_fit_are_held(max_pieces, sizes):
    """One at a time where they are larger than all that may be held."""
    budget, passed, too_many = loader.Budget(max_pieces=max_pieces, max_bytes=100), queue.SimpleQueue(), []
    pieces = sizes * 20

    def read():
        for size in pieces:
            budget.acquire(0)
            passed.put(size)
            budget.resize(0, size)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for _ in pieces:
        size = passed.get(timeout=20)
        too_many += [passed.qsize()] if passed.qsize() >= max_pieces else []
        budget.release(size)
    reader.join(20)

    assert not reader.is_alive()
    assert not too_many


def test_stop_ends_with_what_is_in_hand(photos, model):
    """After stop, nothing more is read, and every reported input has all its faces handed out."""
    seen = []
    loaded = batches(photos, model, batch_size=3, stop=lambda: seen.append(1) or len(seen) > 4)
    reports = reports_of(loaded)

    assert 0 < len(reports) < 9
    assert len(faces_of(loaded)) == sum(report.num_faces for report in reports)
    assert loaded[-1].reached == Cursor(Position(len(reports)))


def test_inputs_without_faces_do_not_wait_for_ever(tmp_path, model, monkeypatch):
    """Where faces are rare, ended inputs still travel on, so that they are committed."""
    monkeypatch.setattr(loader, "MAX_REPORTS", 2)
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"text")
    loaded = batches(tmp_path, model)

    assert [len(batch.finished) for batch in loaded] == [2, 2, 1]


def test_no_face_is_listed_not_dropped(tmp_path, model):
    """A picture without a face has no row under `detect`, and one row under `auto` if it is like a crop."""
    from PIL import Image

    Image.new("RGB", (120, 100), (40, 90, 140)).save(tmp_path / "wall.png")
    (report,) = reports_of(batches(tmp_path, model))
    (crop,) = batches(tmp_path, model, mode="auto")[0].crops

    assert (report.status, report.num_faces) == ("no_face", 0)
    assert (crop.face.source, crop.face.box) == ("whole", (0, 0, 120, 100))


def test_pixels_are_what_the_network_takes(photos, model):
    """Crops arrive as uint8 [3, H, W] at the network's size."""
    crop = batches(photos, model)[0].crops[0]

    assert crop.pixels.shape == (3, model.height, model.width)
    assert crop.pixels.dtype == np.uint8


def test_a_fault_in_a_thread_is_not_swallowed(photos, model, monkeypatch):
    """An error that is not an input's fault ends the run: it never becomes a silent gap."""

    def broken(*_args, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr(Cropping, "crop", broken)
    with pytest.raises(ZeroDivisionError):
        batches(photos, model)


def test_an_error_while_writing_ends_the_reading_threads(photos, model):
    """Also while the error is held: from Python 3.13 on, a thread left over keeps the interpreter from its exit."""
    part = mock.Mock()
    part.rounds.return_value = [[Todo(item, Cursor(Position(item.index))) for item in Listing([str(photos)])]]
    part.write.side_effect = BrokenPipeError
    settings = ModelConfig(name="expression-net", batch_size=1)
    config = RunConfig(
        inputs=InputConfig(paths=(str(photos),)),
        model=settings,
        output=OutputConfig(path="unused"),
        loader=LoaderConfig(threads=2),
    )
    predictor = Predictor(model, settings)
    with pytest.raises(BrokenPipeError) as held:
        work(part, config, model, predictor, on_progress=lambda tally: None, stop=never)

    assert held.tb is not None
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("feed", "prepare"))] == []
