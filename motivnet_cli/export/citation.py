"""How predictions came about, in words for a paper, and whom to cite for it: from the record of their run.

A sentence is written only of what the record and the tables say. What the record of an earlier version lacks is left
out, never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from motivnet_cli.catalogue import CARDS
from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.output.damage import reading
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.read import parts_of, paths_to_read, record_in
from motivnet_cli.output.tables import rows_in
from motivnet_cli.records import LeftOut
from motivnet_cli.remote.urls import local_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motivnet_cli.records import RunRecord

_DETECTORS = {
    "retinaface": "RetinaFace (MobileNet-0.25 body, trained on WIDER FACE)",
    "blazeface": "BlazeFace (back camera, of MediaPipe)",
}
_RECIPES = {
    "stretch": "stretched to the size of the network's input",
    "stretch-224": "resized to 224 x 224 pixels and stretched to the size of the network's input",
    "pad": "made square between white bands that fill the network's input",
    "letterbox": "fitted into the network's input with its aspect kept, between bands",
}
_SOURCES = {
    "detected": ("detected face", "detected faces"),
    "given": ("face of a given box", "faces of given boxes"),
    "whole": ("whole picture", "whole pictures"),
}
_LEFT_OUT = {
    "min-face": ("faces.min_face", "narrower or lower than {:g} pixels"),
    "max-roll": ("faces.max_roll", "turned in the picture by more than {:g} degrees"),
    "min-sharpness": ("faces.min_sharpness", "of a sharpness (variance of the Laplacian) under {:g}"),
    "max-faces": ("faces.max_faces", "more than the {:g} largest of a picture or frame"),
}
"""Options that leave detected faces out: the setting, and which faces."""

_TRAINING = {"motivnet-1b": "It was trained on AffectNet (arXiv 2512.24231)."}

# From CITATION.cff and the networks' own publications; nothing is added that these do not say.
_ENTRIES = {
    "motivnet-paper": """\
@misc{medicharla2025motivnet,
  title = {{MotivNet}: Evolving {Meta-Sapiens} into an Emotionally Intelligent Foundation Model},
  author = {Medicharla, R. and Yilmaz, A.},
  year = {2025},
  eprint = {2512.24231},
  archivePrefix = {arXiv}
}""",
    "sapiens": """\
@misc{khirodkar2024sapiens,
  title = {{Sapiens}: Foundation for Human Vision Models},
  author = {Khirodkar, Rawal and Bagautdinov, Timur and Martinez, Julieta and Zhaoen, Su and James, Austin and \
Selednik, Peter and Anderson, Stuart and Saito, Shunsuke},
  year = {2024},
  eprint = {2408.12569},
  archivePrefix = {arXiv}
}""",
    "ml-decoder": """\
@misc{ridnik2021mldecoder,
  title = {{ML-Decoder}: Scalable and Versatile Classification Head},
  author = {Ridnik, Tal and Sharir, Gilad and Ben-Cohen, Avi and Ben-Baruch, Emanuel and Noy, Asaf},
  year = {2021},
  eprint = {2111.12933},
  archivePrefix = {arXiv}
}""",
    "face-api": """\
@misc{faceapi,
  title = {{FaceExpressionNet} of face-api},
  author = {M{\\"u}hler, Vincent and Mandic, Vladimir},
  howpublished = {npm package @vladmandic/face-api, version 1.7.15}
}""",
    "retinaface": """\
@inproceedings{deng2020retinaface,
  title = {{RetinaFace}: Single-Shot Multi-Level Face Localisation in the Wild},
  author = {Deng, Jiankang and Guo, Jia and Ververas, Evangelos and Kotsia, Irene and Zafeiriou, Stefanos},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2020}
}""",
    "blazeface": """\
@misc{bazarevsky2019blazeface,
  title = {{BlazeFace}: Sub-millisecond Neural Face Detection on Mobile {GPUs}},
  author = {Bazarevsky, Valentin and Kartynnik, Yury and Vakunov, Andrey and Raveendran, Karthik and \
Grundmann, Matthias},
  year = {2019},
  eprint = {1907.05047},
  archivePrefix = {arXiv}
}""",
}
_OF_ARCHITECTURE = {
    "motivnet": ("motivnet-paper", "sapiens", "ml-decoder"),
    "sapiens": ("sapiens",),
    "expression-net": ("face-api",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """How predictions came about, and whom to cite for it."""

    finished: bool
    """Else the numbers in `methods` are of what was done by then, and it says so."""
    methods: str
    """A paragraph."""
    bibtex: tuple[str, ...]
    record: RunRecord


def cite(path: str | Path) -> Citation:
    """What a paper says of the predictions at a path: an output of `annotate`, finished or not.

    Raises:
        ConfigError: No output of motivnet is there.
        OutputConflictError: It is damaged.
    """
    run = _Run.at(path)
    with reading("the record of the run"):
        return Citation(
            finished=run.undone is None,
            methods=" ".join(one_line(sentence) for sentence in run.sentences()),
            bibtex=tuple(run.entries()),
            record=run.record,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What is known of a run."""

    record: RunRecord
    undone: tuple[int, int] | None
    """Inputs done, and all, of a run that has not finished."""
    statuses: Counter[tuple[str, str]]
    """Inputs by kind and status."""
    sources: Counter[str]
    """Faces by source."""
    has_given_frames: bool
    """Boxes were given in videos, which name the frames that are looked at."""
    left_out: LeftOut

    @classmethod
    def at(cls, path: str | Path) -> _Run:
        given, here = shown(str(path)), Path(local_path(str(path)))
        no_record = f"{given!r} has no record of a run: name what motivnet annotate wrote with --out"
        if here.is_file() and not record_in(here):
            raise ConfigError(no_record)
        if (here / "metrics.json").is_file():
            example = here / "predictions.parquet"
            raise ConfigError(
                f"{given!r} is the folder of an evaluation: name its predictions, such as {str(example)!r}"
            )
        paths = paths_to_read(path)
        ledger = Ledger.find(paths.run, paths.backend)
        undone = None
        if ledger is None or paths.is_finished(ledger.run):
            parts = {table: parts_of(path, table) for table in ("inputs", "faces")}
            record = record_in(parts["inputs"][0])
        else:
            parts = {table: paths.backend.fetch_all(ledger.committed(table)) for table in ("inputs", "faces")}
            record, undone = ledger.run.record, (ledger.num_done, ledger.num_items)
        if not {"model", "settings", "faces", "video"} <= record.keys():
            raise ConfigError(no_record)
        statuses: Counter[tuple[str, str]] = Counter()
        left_out = LeftOut()
        for row in rows_in(parts["inputs"], _InputRow):
            statuses[row.kind, row.status] += 1
            left_out += LeftOut.of(row.left_out_by)
        sources: Counter[str] = Counter()
        has_given_frames = False
        if parts["faces"]:
            is_framed = pl.col("frame").is_not_null().alias("is_framed")
            faces = pl.scan_parquet(parts["faces"], glob=False)
            found = faces.group_by(pl.col("face_source").cast(pl.String), is_framed).len()
            for source, is_in_video, count in found.collect(engine="streaming").rows():
                sources[source] += count
                has_given_frames |= source == "given" and is_in_video
        return cls(
            record=record,
            undone=undone,
            statuses=statuses,
            sources=sources,
            has_given_frames=has_given_frames,
            left_out=left_out,
        )

    # ---- the paragraph ----

    def sentences(self) -> Iterator[str]:
        if self.undone is not None:
            done, total = self.undone
            yield f"This run has not finished: {done:,} of {total:,} inputs are done, and the numbers are of these."
        yield from self._inputs()
        yield from self._frames()
        yield from self._faces()
        yield from self._left_out()
        yield from self._crops()
        yield from self._network()

    def _inputs(self) -> Iterator[str]:
        images, videos = self._count("image"), self._count("video")
        what = _and(_counted(n, kind) for n, kind in ((images, "image"), (videos, "video")) if n)
        software = self.record["tool"] + (f" (PyTorch {self.record['torch']})" if "torch" in self.record else "")
        yield f"We ran {software} on {what or 'no image'}."
        if merged := self.record.get("merged"):
            yield f"The predictions were joined from {_counted(len(merged), 'output')}; the settings are the first's."
        failed, partial, no_face = (self._count("image", "video", status=s) for s in ("failed", "partial", "no_face"))
        counts = (
            f"{failed:,} could not be read" if failed else "",
            f"{partial:,} gave faces in part only" if partial else "",
            f"in {no_face:,} no face was found or kept" if no_face else "",
        )
        if any(counts):
            yield f"Of these, {_and(filter(None, counts))}."
        if broken := self._count("archive", "folder", status="failed") + self._count("archive", status="partial"):
            yield f"{_counted(broken, 'archive or folder', 'archives or folders')} could not be read to the end."
        if corruption := self._settings.get("loader.corruption"):
            name, severity = corruption
            yield f"The pictures were corrupted first: {name}, severity {severity}."

    def _frames(self) -> Iterator[str]:
        """Which frames of videos were looked at."""
        if not self._count("video"):
            return
        video: dict[str, Any] = self.record["video"]
        if video.get("fps") is not None:
            what = f"at up to {_counted(video['fps'], 'frame')} per second"
        else:
            every = video.get("every") or 1
            what = "at every frame" if every == 1 else f"at one of every {every:,} frames"
        start, end = video.get("start_s"), video.get("end_s")
        if start or end is not None:
            what += f", from {start:g} s " + ("to the end" if end is None else f"to {end:g} s")
        if self.has_given_frames:
            yield f"Videos with given boxes were looked at in the frames of these, and others {what}."
        else:
            yield f"Videos were sampled {what}."
        if video.get("track"):
            yield (
                "Within a video, faces were followed from frame to frame by the overlap of their boxes and the "
                "similarity of their embeddings."
            )

    def _faces(self) -> Iterator[str]:
        """How faces were found."""
        faces: dict[str, Any] = self.record["faces"]
        sources = self.sources
        if faces.get("mode") == "whole":
            if sources["whole"] or not sources["given"]:
                yield "Each picture was taken as the crop of one face, without face detection."
        elif self._detects:
            where = "Where no box was given, faces" if sources["given"] else "Faces"
            how = ""
            if faces.get("detector") == "retinaface":
                size = faces.get("detection_size")
                how = (
                    ", which looked again and closer where its first look left a doubt"
                    if size == "auto"
                    else f", which looked at pictures shrunk to at most {size} pixels on the longer side"
                )
            name = _DETECTORS[faces["detector"]]
            yield f"{where} were detected with a score of at least {faces['min_confidence']:g} by {name}{how}."
            if faces.get("mode") == "auto":
                yield "Small, nearly square images in which no face was found were taken as crops of one face."
        counts = [_counted(n, *words) for source, words in _SOURCES.items() if (n := sources[source])]
        if len(counts) == 1:
            yield f"There are predictions for {counts[0]}."
        elif counts:
            yield f"There are predictions for {sources.total():,} faces: {_and(counts)}."
        else:
            yield "There are predictions for no face."

    @property
    def _detects(self) -> bool:
        """Not if boxes were given for all faces, so that perhaps no detector ran."""
        found_none = self._count("image", "video", status="no_face")
        return bool(self.sources["detected"] or self.sources["whole"] or found_none or not self.sources["given"])

    def _left_out(self) -> Iterator[str]:
        counts = self.left_out.by_option
        rules = [
            f"{words.format(value)} ({_counted(counts.get(option, 0), 'face')})"
            for option, (name, words) in _LEFT_OUT.items()
            if (value := self._settings.get(name))
        ]
        if rules and self._detects:
            yield f"Detected faces were left out if they were {_or(rules)}."

    def _crops(self) -> Iterator[str]:
        """How faces became the network's input."""
        faces: dict[str, Any] = self.record["faces"]
        sources = self.sources
        recipe = _RECIPES.get(str(self.record.get("recipe")))
        how = f"{recipe} (recipe {self.record['recipe']})" if recipe else ""
        if sources["detected"] or sources["given"]:
            side = f"{1 + faces['margin']:g} times the height of its box"
            which = "detected or given face" if sources["whole"] else "face"
            words = f"Each {which} was cut out as a square of {side}, or of its width where that is more"
            if faces.get("align") and sources["detected"]:
                words += ", rotated until the eyes were level where the detector saw them"
            yield f"{words}{f', and {how}' if how else ''}."
        elif sources["whole"] and how:
            yield f"Each picture was {how}."

    def _network(self) -> Iterator[str]:
        record, settings = self.record, self._settings
        name = record["model"]
        gives = [f"probabilities of {len(record['classes'])} classes ({', '.join(record['classes'])})"]
        if not record["classes"]:
            gives = []
        if settings.get("output.embeddings") != "none" and "embedding_size" in record:
            gives.append(f"an embedding of {record['embedding_size']:,} numbers")
        digest = f" (SHA-256 of the weights {record['weights_sha256']})"
        flip = ", averaged over the face and its mirror image" if settings.get("model.flip") else ""
        yield f"Of each face the model {name}{digest} gave {_and(gives)}, computed in {record['precision']}{flip}."
        card = CARDS.get(name)
        if card is not None:
            yield f"It is {card.title}."
        elif "architecture" in record:
            yield f"Its architecture is {record['architecture']}."
        if training := _TRAINING.get(name):
            yield training
        if (sources := record.get("sources", name)) != name:
            yield f"It comes from {sources}."
        if change := record.get("position_change"):
            yield f"Its position table was changed: {change}."
        yield f"Terms of the weights: {record['terms'].rstrip('.')}."

    # ---- whom to cite ----

    def entries(self) -> Iterator[str]:
        version = one_line(self.record["tool"].removeprefix("motivnet "))
        yield (
            "@software{motivnet,\n  title = {motivnet},\n  author = {{The motivnet contributors}},\n"
            f"  version = {{{version}}}\n}}"
        )
        keys = [key for each in self._architectures() for key in _OF_ARCHITECTURE.get(each, ())]
        if self.record["faces"].get("mode") != "whole" and self._detects:
            keys.append(str(self.record["faces"]["detector"]))
        yield from (_ENTRIES[key] for key in dict.fromkeys(keys))

    def _architectures(self) -> list[str]:
        """Of the model, or of those of the catalogue that it was made from."""
        card = CARDS.get(self.record["model"])
        own = card.architecture if card else self.record.get("architecture", "")
        named = re.findall(r"(?:^|, )(\S+) \(", self.record.get("sources", ""))
        parents = [each for each in CARDS.values() if each.name in named]
        return [own, *(each.architecture for each in parents)]

    # ---- what the record says ----

    @property
    def _settings(self) -> dict[str, Any]:
        return self.record["settings"]

    def _count(self, *kinds: str, status: str | None = None) -> int:
        return sum(n for (kind, its), n in self.statuses.items() if kind in kinds and status in (None, its))


class _InputRow(NamedTuple):
    kind: str
    status: str
    left_out_by: str | None = None
    """Of which former versions say nothing."""


def _counted(number: float, one: str, many: str = "") -> str:
    figure = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{figure} {one if number == 1 else many or f'{one}s'}"


def _and(words: Iterable[str]) -> str:
    return _joined(words, "and")


def _or(words: Iterable[str]) -> str:
    return _joined(words, "or")


def _joined(words: Iterable[str], last: str) -> str:
    *first, end = [*words] or [""]
    return f"{', '.join(first)} {last} {end}" if first else end
