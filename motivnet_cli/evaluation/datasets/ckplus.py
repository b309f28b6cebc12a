"""Extended Cohn-Kanade: sequences of frames, with a file for the label of each labelled sequence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.disk import normalise_label, read_text
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.evaluation.datasets.sequences import chosen_frames, frames_in
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.disk import Disk
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request


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


LAYOUTS = (Layout(_recognise, _read),)
