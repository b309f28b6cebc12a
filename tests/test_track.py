"""Tracks: who keeps an id, who gets a new one, and that a resumed tracker cannot be told from an undisturbed one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motivnet_cli.errors import ConfigError
from motivnet_cli.faces.track import MIN_SIMILARITY, MIN_SIMILARITY_AT_ONCE, TrackConfig, Tracker

ANN, BOB = np.eye(4, dtype=np.float16)[:2]
"""Embeddings of two faces that have nothing in common."""


def box(x, y=100.0, size=100.0):
    """A square box, given by its left upper corner."""
    return (x, y, x + size, y + size)


def turned(similarity):
    """An embedding of this cosine similarity to ANN's."""
    return np.array([similarity, (1 - similarity**2) ** 0.5, 0, 0], np.float32)


def follow(frames, config=None):
    """The ids of a whole clip, frame by frame; a frame is its time and its faces, each a box and an embedding."""
    tracker = Tracker(config or TrackConfig(max_gap_s=2.5))
    return [tracker.assign(*arrays(faces), time_s).tolist() for time_s, faces in frames]


def arrays(faces):
    boxes = np.array([each[0] for each in faces], np.float32).reshape(-1, 4)
    return boxes, np.array([each[1] for each in faces], np.float16).reshape(len(faces), 4)


def test_a_moving_face_keeps_its_id():
    """A face that moves by a third of its size a frame is one track, however far it gets."""
    assert follow([(t / 2, [(box(33 * t), ANN)]) for t in range(30)]) == [[0]] * 30


@pytest.mark.parametrize(("step", "similarity"), [(10, 0.5), (25, 0.0), (45, 0.0)])
def test_crossing_faces_keep_their_ids(step, similarity):
    """Two who walk through each other are told apart by their embeddings, also where each takes the other's place."""
    ann, bob = turned(1), turned(similarity)
    frames = []
    for t in range(21):
        faces = [(box(500 + step * (t - 10)), ann), (box(500 - step * (t - 9)), bob)]
        frames.append((t, sorted(faces, key=lambda face: face[0])))
    expected = [[0 if face[1] is ann else 1 for face in faces] for _, faces in frames]

    assert expected[0] == expected[-1][::-1]
    assert follow(frames) == expected


def test_neighbours_who_exchange_expressions_keep_their_ids():
    """Overlap outweighs similarity: each stays where he sits when the embeddings change places."""
    smile, frown = turned(1), turned(MIN_SIMILARITY + 0.01)

    assert (
        follow([(0, [(box(0), smile), (box(150), frown)]), (1, [(box(50), frown), (box(200), smile)])]) == [[0, 1]] * 2
    )


@pytest.mark.parametrize(("gap_s", "track"), [(1.0, 0), (2.5, 0), (2.51, 1), (60.0, 1)])
def test_gaps(gap_s, track):
    """A face that is back within the longest gap goes on with its track; later it starts another."""
    assert follow([(3.0, [(box(0), ANN)]), (3.5, []), (3.0 + gap_s, [(box(10), ANN)])]) == [[0], [], [track]]


def test_a_face_elsewhere_is_another():
    """One who leaves and one who enters far away are two tracks, even with the same embedding."""
    assert follow([(0, [(box(0), ANN)]), (1, [(box(800), ANN)])]) == [[0], [1]]


@pytest.mark.parametrize(("size", "track"), [(100.0, 0), (190.0, 0), (210.0, 1), (48.0, 1)])
def test_a_jump_needs_a_like_size(size, track):
    """A face that jumps to a place nearby without overlap goes on only if it is up to twice as large or small."""
    assert follow([(0, [(box(0), ANN)]), (1, [(box(105, 100, size), ANN)])]) == [[0], [track]]


@pytest.mark.parametrize(("similarity", "track"), [(1.0, 0), (0.72, 0), (0.68, 1)])
def test_a_jump_needs_similarity(similarity, track):
    """A face that jumps to a place nearby without overlap goes on only if it looks the same."""
    assert follow([(0, [(box(0), ANN)]), (1, [(box(120), turned(similarity))])]) == [[0], [track]]


def test_a_cut_starts_new_tracks():
    """Where all boxes jump and no embedding fits, every face is new, in the order of the rows."""
    before = [(box(0), ANN), (box(300), ANN)]

    assert follow([(0, before), (0.5, [(box(150), BOB), (box(450), BOB)])]) == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("elapsed_s", "least"), [(0.0, MIN_SIMILARITY_AT_ONCE), (0.4, 0.55), (1.0, MIN_SIMILARITY), (2.0, MIN_SIMILARITY)]
)
def test_one_place_does_not_make_one_person(elapsed_s, least):
    """At the very same place a face needs a similarity that falls with the time between, but never goes away."""
    for similarity, track in ((least + 0.01, 0), (least - 0.01, 1)):
        assert follow([(0, [(box(0), ANN)]), (elapsed_s, [(box(0), turned(similarity))])]) == [[0], [track]]


def test_a_cut_there_and_back_joins_again():
    """After a short shot of somebody else, a similar face at a similar place has its track again."""
    frames = [(0, [(box(0), ANN)]), (1, [(box(10), BOB)]), (2, [(box(20), turned(0.9))]), (3, [(box(20), ANN)])]

    assert follow(frames) == [[0], [1], [0], [0]]


def test_frames_without_faces():
    """Empty frames give no ids and use none up."""
    assert follow([(0, []), (1, [(box(0), ANN)]), (2, []), (3, [])]) == [[], [0], [], []]
    assert Tracker(TrackConfig()).assign(*arrays([]), 0.0).dtype == np.int64


def test_ids_follow_first_appearance():
    """New faces are numbered in the order of the rows, old ones keep their number wherever they are among them."""
    frames = [(0, [(box(300), ANN)]), (1, [(box(0), ANN), (box(300), ANN), (box(600), ANN)])]

    assert follow(frames) == [[0], [1, 0, 2]]


@pytest.mark.parametrize("embedding", [np.zeros(4), np.full(4, np.inf), np.full(4, np.nan)], ids=["zero", "inf", "nan"])
def test_embeddings_that_say_nothing(embedding):
    """A zero, infinite or undefined embedding fits no other: it starts a track each time and disturbs no neighbour."""
    faces = [(box(0), embedding), (box(300), ANN)]

    assert follow([(0, faces), (1, faces)]) == [[0, 1], [2, 1]]


def test_ties_go_to_the_older_track_and_the_first_row():
    """Of two tracks that fit equally the older gets the face, of two faces that fit equally the first row the track."""
    pair = [(box(0), ANN), (box(40), ANN)]

    assert follow([(0, pair), (1, [(box(20), ANN)])]) == [[0, 1], [0]]
    assert follow([(0, [(box(20), ANN)]), (1, pair)]) == [[0], [0, 1]]


def test_ties_are_the_same_after_a_resume():
    """The older track is the one with the smaller id, in whatever order the rows were."""
    tracker = Tracker.resume(
        TrackConfig(), [(0.0, *arrays([(box(0), ANN), (box(40), ANN)]), np.array([1, 0]))], next_id=2
    )

    assert tracker.assign(*arrays([(box(20), ANN)]), 1.0).tolist() == [0]


def test_time_that_steps_back_ends_tracks():
    """A track is not joined by a frame that lies before it."""
    assert follow([(5, [(box(0), ANN)]), (4, [(box(0), ANN)])]) == [[0], [1]]


def test_time_that_steps_back_ends_tracks_of_a_resumed_tracker():
    """A track that a step back in time ended stays ended when time comes by again."""
    ann = arrays([(box(0), ANN)])
    tracker = Tracker.resume(TrackConfig(), [(5.0, *ann, np.array([0])), (4.0, *ann, np.array([1]))], next_id=2)

    assert tracker.assign(*ann, 6.0).tolist() == [1]


def test_no_embeddings():
    """Without embeddings there are no tracks, and the message says what to change."""
    with pytest.raises(ConfigError, match="--embeddings float16"):
        Tracker(TrackConfig()).assign(np.zeros((1, 4), np.float32), np.zeros((1, 0), np.float16), 0.0)


@pytest.mark.parametrize("gap_s", [0.0, -1.0, float("nan"), float("inf")])
def test_gap_that_cannot_be(gap_s):
    """The longest gap is a positive number of seconds."""
    with pytest.raises(ConfigError, match="more than 0"):
        TrackConfig(max_gap_s=gap_s)


@pytest.mark.parametrize(("interval_s", "gap_s"), [(1 / 25, 2.0), (0.8, 2.0), (1.0, 2.5), (10.0, 25.0)])
def test_gap_follows_the_sampling(interval_s, gap_s):
    """The longest gap holds one missed frame, and is at least two seconds."""
    assert TrackConfig.for_interval(interval_s).max_gap_s == gap_s


@st.composite
def clips(draw):
    """Random walks of up to four faces that come and go, in frames at odd times, now and then with a cut."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_faces, embedding_type = draw(st.integers(1, 4)), draw(st.sampled_from([np.float16, np.float32]))
    places, looks = rng.uniform(0, 400, (num_faces, 2)), np.abs(rng.normal(size=(num_faces, 8)))
    frames, time_s = [], 0.0
    for _ in range(draw(st.integers(2, 25))):
        time_s += draw(st.sampled_from([0.0, 0.04, 0.5, 1.0, 1.0, 2.0, 2.5, 4.0]))
        if draw(st.integers(0, 9)) == 0:
            places, looks = rng.permutation(places), np.abs(rng.normal(size=looks.shape))
        places = places + rng.normal(0, 30, places.shape)
        looks = np.abs(looks + rng.normal(0, 0.3, looks.shape))
        here = np.flatnonzero(rng.random(num_faces) < 0.8)
        here = here[np.argsort(places[here, 0])]
        boxes = np.concatenate((places[here], places[here] + rng.uniform(60, 120, (len(here), 1))), axis=1)
        frames.append((time_s, boxes.astype(np.float32), looks[here].astype(embedding_type)))
    return frames


@pytest.mark.thorough
@settings(max_examples=150)
@given(clips(), st.sampled_from([2.0, 2.5]))
def test_resumed_anywhere_as_undisturbed(frames, gap_s):
    """Stopped after any frame and made again from the rows of the last seconds, a tracker gives the same ids."""
    config = TrackConfig(max_gap_s=gap_s)
    tracker = Tracker(config)
    rows, next_ids = [], []
    for time_s, boxes, embeddings in frames:
        rows.append((time_s, boxes, embeddings, tracker.assign(boxes, embeddings, time_s)))
        next_ids.append(tracker.next_id)

    for stop in range(len(frames)):
        kept = [row for row in rows[: stop + 1] if len(row[3]) and frames[stop][0] - row[0] <= gap_s]
        resumed = Tracker.resume(config, kept, next_id=next_ids[stop])
        for time_s, boxes, embeddings, tracks in rows[stop + 1 :]:
            assert resumed.assign(boxes, embeddings, time_s).tolist() == tracks.tolist()
        assert resumed.next_id == next_ids[-1]


@pytest.mark.thorough
@settings(max_examples=100)
@given(clips())
def test_ids_are_complete(frames):
    """No id stands twice in a frame, and first appearances count up from 0 without a hole."""
    tracker = Tracker(TrackConfig())
    seen = []
    for time_s, boxes, embeddings in frames:
        tracks = tracker.assign(boxes, embeddings, time_s).tolist()
        assert len(set(tracks)) == len(tracks) == len(boxes)
        seen += [track for track in tracks if track not in seen]

    assert seen == list(range(tracker.next_id))


@pytest.mark.thorough
@settings(max_examples=100)
@given(clips(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(frames, random):
    """With its rows in another order, a frame joins the same faces to the same tracks."""
    trackers = Tracker(TrackConfig()), Tracker(TrackConfig())
    same = {}
    for time_s, boxes, embeddings in frames:
        order = random.sample(range(len(boxes)), len(boxes))
        there = trackers[0].assign(boxes, embeddings, time_s)
        here = trackers[1].assign(boxes[order], embeddings[order], time_s)
        for first, second in zip(there[order].tolist(), here.tolist(), strict=True):
            assert same.setdefault(first, second) == second

    assert len(set(same.values())) == len(same)
