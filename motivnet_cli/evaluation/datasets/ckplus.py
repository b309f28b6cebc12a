"""Extended Cohn-Kanade: sequences of frames, with a file for the label of each labelled sequence."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.classes import CONTEMPT, emotion_named
from motivnet_cli.evaluation.datasets.disk import normalise_label, read_text
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.evaluation.datasets.sequences import chosen_frames, frames_in
from motivnet_cli.inputs.names import kind_of
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.disk import Disk
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_FRAME = re.compile(r"((S\d{3})_\d{3})_(\d{8})\.(?:png|jpe?g|tiff?|bmp)", re.IGNORECASE)
"""Sequence, subject, number of the frame."""


def _recognise(request: Request, folder: str) -> Paths:
    frames = request.disk.child(folder, "cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
    labels = request.disk.child(folder, "Emotion", "Emotion_labels/Emotion", "Emotion_labels")
    return {"frames": frames, "labels": labels} if frames and labels else {}


def _read(request: Request, found: Recognised) -> SplitRows:
    frames, labels = found.paths["frames"], found.paths["labels"]
    protocol = request.protocol or request.card.default_protocol or ""
    num_last = 3 if "last_three" in protocol else 1
    disk = request.disk
    rows = []
    dropped: Counter[str] = Counter()
    num_sequences = num_labelled = 0
    for subject in disk.folders(frames):
        for sequence in disk.folders(f"{frames}/{subject}"):
            num_sequences += 1
            files = _label_files(disk, f"{labels}/{subject}/{sequence}")
            if not files:
                continue
            num_labelled += 1
            pictures = frames_in(disk, f"{frames}/{subject}/{sequence}")
            if not pictures:
                dropped["sequence without pictures"] += 1
            label = normalise_label(read_text(files[0]).strip())
            with_neutral = protocol.endswith("_neutral") and request.card.labels.get(label) in EMOTIONS
            for path, is_neutral in chosen_frames(pictures, num_last, with_neutral=with_neutral):
                rows.append(Row(path, "0" if is_neutral else label, subject))
    if num_without_folder := _num_labelled_without_folder(disk, frames, labels):
        dropped["sequence without pictures"] += num_without_folder
    without = num_sequences - num_labelled
    return SplitRows(
        split="all",
        protocol=protocol,
        rows=rows,
        faces=request.card.faces,
        dropped=dropped,
        remarks=(f"{without} of {num_sequences} sequences have no label and are not used",) if without else (),
    )


def _label_files(disk: Disk, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in disk.files(folder) if name.casefold().endswith("_emotion.txt")]


def _num_labelled_without_folder(disk: Disk, frames: str, labels: str) -> int:
    return sum(
        bool(_label_files(disk, f"{labels}/{subject}/{sequence}"))
        for subject in disk.folders(labels)
        for sequence in set(disk.folders(f"{labels}/{subject}")) - set(disk.folders(f"{frames}/{subject}"))
    )


# ---- folders by emotion, as on Kaggle ---------------------------------------------------------------------


def _recognise_sorted(request: Request, folder: str) -> Paths:
    """`CK+48/<emotion>/S010_004_00000017.png`: the last three frames of the labelled sequences, cut to the face."""
    disk = request.disk
    paths = {name: f"{folder}/{name}" for name in disk.folders(folder)}
    paths = {name: path for name, path in paths.items() if any(map(_FRAME.fullmatch, disk.files(path)))}
    return paths if any(map(emotion_named, paths)) else {}


def _read_sorted(request: Request, found: Recognised) -> SplitRows:
    protocol = request.protocol or request.card.default_protocol or ""
    if protocol.endswith("_neutral"):
        raise ConfigError(
            f"ckplus: {found.folder!r} has no first frames, which are neutral: leave out --protocol {protocol}"
        )
    dropped: Counter[str] = Counter()
    # By its label, too: a sequence has one, and where a copy says otherwise none of its frames is to vanish.
    sequences: dict[tuple[str, str], list[tuple[str, Row]]] = defaultdict(list)
    for label, folder in found.paths.items():
        for name in request.disk.files(folder):
            match = _FRAME.fullmatch(name)
            if match:
                sequences[match[1], label].append((match[3], Row(f"{folder}/{name}", label, match[2].upper())))
            elif kind_of(name) == "image":
                dropped["name not understood"] += 1
    num_last = 3 if protocol == "last_three" else 1
    rows = [row for frames in sequences.values() for _, row in sorted(frames, key=itemgetter(0))[-num_last:]]
    several = [name for name, count in Counter(name for name, _ in sequences).items() if count > 1]
    remarks = (
        [f"{len(several)} sequences lie in the folders of several emotions, such as {several[0]}"] if several else []
    )
    return SplitRows(
        split="all",
        protocol=protocol,
        rows=rows,
        faces="whole",
        dropped=dropped,
        remarks=remarks,
        names_classes=True,
    )


# ---- a table of pixels with numbers of its own ------------------------------------------------------------


def _recognise_table(request: Request, folder: str) -> Paths:
    path = request.disk.child(folder, "ckextended.csv")
    return {"table": path} if path else {}


def _refuse_table(request: Request, found: Recognised) -> SplitRows:
    """Its numbers are FER2013's with contempt as 7, as those who use it say; CK+ has others."""
    names = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", CONTEMPT)
    numbers = {str(number): name for number, name in enumerate(names)}
    raise ConfigError(
        f"ckplus: {found.paths['table']!r} numbers the emotions otherwise than CK+ does, and is of frames that are not "
        "all of its last ones. Read it as a table of your own: "
        f"`{request.command(dataset='csv', root=found.paths['table'], protocol=None, label_map=numbers)}`"
    )


LAYOUTS = (Layout(_recognise, _read), Layout(_recognise_sorted, _read_sorted), Layout(_recognise_table, _refuse_table))
