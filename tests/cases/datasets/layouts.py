"""Tiny copies of labelled sets as people have them on disk, each with the label of every image, written by the maker.

Random pixels. The layouts are those of the sets' own pages, of public readers and of mirrors. Labels are given here by
hand and by name, and never by what reads the sets.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEUTRAL, HAPPINESS, SADNESS, SURPRISE, FEAR, DISGUST, ANGER = range(7)
CONTEMPT = None
"""What no image of the seven emotions is: it is dropped."""

SEVEN = {
    **{"angry": ANGER, "disgust": DISGUST, "fear": FEAR, "happy": HAPPINESS, "neutral": NEUTRAL, "sad": SADNESS},
    "surprise": SURPRISE,
}
EIGHT = {
    **{"anger": ANGER, "contempt": CONTEMPT, "disgust": DISGUST, "fear": FEAR, "happy": HAPPINESS},
    **{"neutral": NEUTRAL, "sad": SADNESS, "surprise": SURPRISE},
}
AFFECTNET = {
    **{0: NEUTRAL, 1: HAPPINESS, 2: SADNESS, 3: SURPRISE, 4: FEAR, 5: DISGUST, 6: ANGER, 7: CONTEMPT},
    **{8: None, 9: None, 10: None},
}
RAFDB = {1: SURPRISE, 2: FEAR, 3: DISGUST, 4: HAPPINESS, 5: SADNESS, 6: ANGER, 7: NEUTRAL}
FER = {0: ANGER, 1: DISGUST, 2: FEAR, 3: HAPPINESS, 4: SADNESS, 5: SURPRISE, 6: NEUTRAL}
FERPLUS = {0: NEUTRAL, 1: HAPPINESS, 2: SURPRISE, 3: SADNESS, 4: ANGER, 5: DISGUST, 6: FEAR}
CKPLUS = {1: ANGER, 2: CONTEMPT, 3: DISGUST, 4: FEAR, 5: HAPPINESS, 6: SADNESS, 7: SURPRISE}
CODES = {"AN": ANGER, "DI": DISGUST, "FE": FEAR, "HA": HAPPINESS, "NE": NEUTRAL, "SA": SADNESS, "SU": SURPRISE}
KDEF = {"AF": FEAR, **{code: label for code, label in CODES.items() if code != "FE"}}

_RANDOM = np.random.default_rng(0)


class Case(NamedTuple):
    """A copy of a set, and what must come of reading it."""

    layout: str
    dataset: str
    root: Path
    right: dict[str, int]
    """Image, below the root or by its row's name -> label: of the split that is read, without what is dropped."""
    options: dict[str, str] = {}  # noqa: RUF012 - never changed
    refused: str = ""
    """What the first answer must say, if it is an error: then the call that it names must give the right labels."""
    reading: str = ""
    """Which of the calls, by the words before it."""


def picture(path: Path, side: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(side))


def content(side: int = 48) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    Image.fromarray(_RANDOM.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def kept(labels: dict[str, int | None]) -> dict[str, int]:
    return {name: label for name, label in labels.items() if label is not None}


def in_folders(
    root: Path, where: str, classes: dict[object, int | None], file: str = "a.jpg", **options: int
) -> dict[str, int]:
    """A picture in each class folder of a folder below the root; `{}` of the file's name is the class."""
    labels = {f"{where}/{name}/{file.format(name)}".lstrip("/"): label for name, label in classes.items()}
    for name in labels:
        picture(root / name, **options)
    return kept(labels)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# ---- RAF-DB -----------------------------------------------------------------------------------------------


def rafdb_list(path: Path) -> None:
    lines = [f"train_{i:05}.jpg {native}" for i, native in enumerate(RAFDB, 1)]
    lines += [f"test_{i:04}.jpg {native}" for i, native in enumerate(RAFDB, 1)]
    write(path, "\n".join(lines) + "\n")


def rafdb_pictures(root: Path, folder: str) -> dict[str, int]:
    labels = {f"{folder}/test_{i:04}_aligned.jpg": label for i, label in enumerate(RAFDB.values(), 1)}
    for name in labels:
        picture(root / name)
    return labels


def rafdb(base: Path) -> Iterator[Case]:
    for name, inside, pictures in (
        ("official", "basic/EmoLabel/", "basic/Image/aligned"),
        ("aligned.zip unpacked in its own folder", "basic/EmoLabel/", "basic/Image/aligned/aligned"),
        ("list beside aligned/", "", "aligned"),
    ):
        root = base / f"raf {len(inside)} {len(pictures)}"
        rafdb_list(root / f"{inside}list_patition_label.txt")
        yield Case(f"RAF-DB {name}", "rafdb", root, rafdb_pictures(root, pictures))

    root = base / "raf_kaggle"
    in_folders(root, "DATASET/train", RAFDB, "train_0000{}_aligned.jpg")
    right = in_folders(root, "DATASET/test", RAFDB, "test_000{}_aligned.jpg")
    for split in ("train", "test"):
        lines = "".join(f"{split}_0000{native}_aligned.jpg,{native}\n" for native in RAFDB)
        write(root / f"{split}_labels.csv", f"image,label\n{lines}")
    yield Case("RAF-DB Kaggle DATASET/{train,test}/{1..7}", "rafdb", root, right)

    root = base / "raf_named"
    in_folders(root, "train", SEVEN)
    yield Case("RAF-DB folders named", "rafdb", root, in_folders(root, "test", SEVEN))
    yield Case("RAF-DB folders named, one split", "folder", root / "test", in_folders(root / "test", "", SEVEN))

    root = base / "raf_valid"
    in_folders(root, "train", RAFDB, "train_0000{}_aligned.jpg")
    right = in_folders(root, "valid", RAFDB, "test_000{}_aligned.jpg")
    yield Case("RAF-DB train/valid class folders", "rafdb", root, right)

    root = base / "raf_from_0"
    from_0 = {native - 1: label for native, label in RAFDB.items()}
    in_folders(root, "train", from_0)
    right = in_folders(root, "test", from_0)
    refused = "can be read in more than one way"
    yield Case("RAF-DB folders 0 to 6", "rafdb", root, right, refused=refused, reading="order counted from 0")

    root = base / "raf_parquet"
    root.mkdir()
    names = [f"test_{i:04}_aligned.jpg" for i in range(7)]
    cells = [{"bytes": content(), "path": name} for name in names]
    table = root / "test-00000-of-00001.parquet"
    pl.DataFrame({"image": cells, "label": list(range(7))}).write_parquet(table)
    right = dict(zip(names, from_0.values(), strict=True))
    yield Case("RAF-DB Parquet", "rafdb", root, right, refused=refused, reading="order counted from 0")
    label_map = "0=surprise,1=fear,2=disgust,3=happy,4=sad,5=anger,6=neutral"
    yield Case("RAF-DB Parquet as a table", "parquet", table, right, {"label_map": label_map})


# ---- AffectNet --------------------------------------------------------------------------------------------


def affectnet(base: Path) -> Iterator[Case]:
    root = base / "aff_release"
    for split in ("train_set", "val_set"):
        for native in range(8):
            picture(root / split / f"images/{native}.jpg")
            (root / split / "annotations").mkdir(exist_ok=True)
            np.save(root / split / f"annotations/{native}_exp.npy", np.array(str(native)))
            np.save(root / split / f"annotations/{native}_val.npy", np.array("0.1"))
    right = kept({f"val_set/images/{native}.jpg": AFFECTNET[native] for native in range(8)})
    yield Case("AffectNet 8-label release", "affectnet7", root, right)

    for lists, images in (
        ("Manually_Annotated_file_lists/", "Manually_Annotated_Images"),
        ("Manually_Annotated_file_lists/", "Manually_Annotated_compressed/Manually_Annotated_Images"),
        ("", "Manually_Annotated/Manually_Annotated_Images"),
    ):
        root = base / f"aff_lists {len(lists)} {len(images)}"
        head = (
            "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
        )
        rows = "".join(f"{c}/img{c}.jpg,20,20,80,80,1;2,{c},0.1,0.2\n" for c in range(11))
        for name in ("training.csv", "validation.csv"):
            write(root / f"{lists}{name}", head + rows)
        labels = {f"{images}/{native}/img{native}.jpg": label for native, label in AFFECTNET.items()}
        for name in labels:
            picture(root / name, 128)
        yield Case(f"AffectNet lists in {lists or '.'} with {images}", "affectnet7", root, kept(labels))

    eight = {native: AFFECTNET[native] for native in range(8)}
    for splits, taken in (("train val", "val"), ("train valid test", "valid"), ("train test", "test")):
        root = base / f"aff_folders {splits}"
        right = {split: in_folders(root, split, eight) for split in splits.split()}
        yield Case(f"AffectNet {splits} in folders 0 to 7", "affectnet7", root, right[taken])

    root = base / "aff_named"
    in_folders(root, "train", EIGHT)
    yield Case("AffectNet {train,val}/<emotion>", "affectnet7", root, in_folders(root, "val", EIGHT))

    root = base / "aff_one_folder"
    right = in_folders(root, "", EIGHT)
    lines = "".join(f"{i},{emotion}/a.jpg,{emotion},0.8\n" for i, emotion in enumerate(EIGHT))
    write(root / "labels.csv", f",pth,label,relFCs\n{lines}")
    yield Case("AffectNet <emotion>/ and labels.csv", "affectnet7", root, right, refused="has no splits")
    yield Case("AffectNet <emotion>/ as a folder", "folder", root, right)
    yield Case("AffectNet labels.csv", "csv", root / "labels.csv", right)
    yield Case("AffectNet labels.csv, column named", "csv", root / "labels.csv", right, {"path_column": "pth"})

    root = base / "aff_kaggle"
    spelled = {**{"Anger": ANGER, "Contempt": CONTEMPT}, **{name: EIGHT[name] for name in [*EIGHT][2:]}}
    in_folders(root, "archive (3)/Train", spelled)
    right = in_folders(root, "archive (3)/Test", spelled)
    yield Case("AffectNet Train/Test named", "affectnet7", root, right)

    root = base / "aff_yolo"
    names = ["Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
    for split in ("train", "valid", "test"):
        for number in range(8):
            picture(root / f"YOLO_format/{split}/images/f{number}.png")
            write(root / f"YOLO_format/{split}/labels/f{number}.txt", f"{number} 0.5 0.5 1 1\n")
    write(root / "YOLO_format/data.yaml", f"nc: 8\nnames: [{', '.join(names)}]\n")
    labels = {f"YOLO_format/valid/images/f{i}.png": EIGHT[name.casefold()] for i, name in enumerate(names)}
    yield Case("AffectNet in YOLO's format", "affectnet7", root, kept(labels))

    root = base / "aff_list"
    right = in_folders(root, "Manually_trainval_croped", {i: AFFECTNET[i] for i in range(7)}, "x.jpg")
    write(root / "affectnet_validation-cls7.txt", "".join(f"{i}/x.jpg {i}\n" for i in range(7)))
    yield Case("AffectNet list with cropped images", "affectnet7", root, right)

    root = base / "aff_parquet"
    root.mkdir()
    cells = [{"bytes": content(), "path": None} for _ in range(8)]
    table = "train-00000-of-00012.parquet"
    pl.DataFrame({"image": cells, "label": list(range(8))}).write_parquet(root / table)
    right = kept({f"{table}#{i + 1}": AFFECTNET[i] for i in range(8)})
    refused = "has no split 'val' .* it has train"
    yield Case("AffectNet Parquet of train alone", "affectnet7", root, {}, refused=refused)
    refused = "can be read in more than one way"
    yield Case("AffectNet Parquet", "affectnet7", root, right, {"split": "train"}, refused, "own numbers")

    root = base / "aff_json"
    right = {f"imgs/{i}.jpg": AFFECTNET[i] for i in range(7)}
    for name in right:
        picture(root / name)
    write(root / "test_labels.json", json.dumps({str(i): [f"{i}.jpg"] for i in range(7)}))
    yield Case("the reference's JSON as a folder", "folder", root, right, refused=refused, reading="MotivNet's")
    yield Case("the reference's JSON as AffectNet", "affectnet7", root, right)


# ---- FER2013 and FERPlus ----------------------------------------------------------------------------------

USAGES = ("Training", "PublicTest", "PrivateTest")


def fer_table(path: Path, columns: tuple[str, ...] = ("emotion", "pixels", "Usage")) -> dict[str, int]:
    """A table of one image a class and split; the labels of the last split."""
    rows, right = [], {}
    for usage in USAGES:
        for native, label in FER.items():
            pixels = " ".join(map(str, _RANDOM.integers(0, 255, 48 * 48)))
            cells = {"emotion": str(native), "pixels": pixels, "Usage": usage}
            if usage == "PrivateTest":
                right[f"row-{len(rows):05}.png"] = label
            rows.append(",".join(cells[column.strip()] for column in columns))
    write(path, "\n".join([",".join(columns), *rows]) + "\n")
    return right


def fer2013(base: Path) -> Iterator[Case]:
    yield Case("fer2013.csv", "fer2013", base / "fer_csv", fer_table(base / "fer_csv/fer2013.csv"))
    right = fer_table(base / "fer_icml/icml_face_data.csv", ("emotion", " Usage", " pixels"))
    yield Case("icml_face_data.csv", "fer2013", base / "fer_icml", right)

    root = base / "fer_challenge"
    pixels = " ".join(["7"] * 2304)
    write(root / "fer2013/train.csv", "emotion,pixels\n" + "".join(f"{native},{pixels}\n" for native in FER))
    write(root / "fer2013/test.csv", f"pixels\n{pixels}\n")
    right = {f"train-row-{row:05}.png": label for row, label in enumerate(FER.values())}
    yield Case("FER2013 train.csv, test.csv", "fer2013", root, {}, refused="no split 'private' .* it has train: choose")
    yield Case("FER2013 train.csv", "fer2013", root, right, {"split": "train"})

    root = base / "fer_kaggle"
    in_folders(root, "train", SEVEN)
    yield Case("FER2013 Kaggle {train,test}/<name>", "fer2013", root, in_folders(root, "test", SEVEN))
    refused = "has no split 'private' .* it has train, test: choose with --split, such as .* --split test"
    yield Case("FER2013 Kaggle, private asked", "fer2013", root, {}, {"split": "private"}, refused)

    root = base / "fer_divided"
    in_folders(root, "images/train", SEVEN)
    right = in_folders(root, "images/validation", SEVEN)
    refused = "none of the published splits .* Read it as a set of your own"
    yield Case("FER2013 images/{train,validation}", "fer2013", root, right, refused=refused)

    for name, classes in (("numbered", FER), ("named", {each.capitalize(): label for each, label in SEVEN.items()})):
        root = base / f"fer_usage_{name}"
        right = {usage: in_folders(root, usage, classes) for usage in USAGES}
        yield Case(f"FER2013 by usage, {name}", "fer2013", root, right["PrivateTest"])

    root = base / "fer_three"
    right = {split: in_folders(root, split, SEVEN) for split in ("train", "val", "test")}
    yield Case("FER2013 {train,val,test}/<name>", "fer2013", root, right["test"])
    yield Case("FER2013 {train,val,test}, public", "fer2013", root, right["val"], {"split": "public"})

    root = base / "fer_parquet"
    root.mkdir()
    table = "test-00000-of-00001.parquet"
    cells = [{"bytes": content(), "path": None} for _ in range(7)]
    pl.DataFrame({"image": cells, "label": list(range(7))}).write_parquet(root / table)
    right = {f"{table}#{native + 1}": label for native, label in FER.items()}
    refused = "can be read in more than one way"
    yield Case("FER2013 Parquet", "fer2013", root, right, refused=refused, reading="own numbers")


def votes(root: Path) -> dict[str, int]:
    """FERPlus' list, its names not the rows' numbers; the labels of the test split."""
    columns = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    lines, right = [], {}
    for usage in USAGES:
        for native, label in FERPLUS.items():
            name = f"fer{len(lines) * 5 % 21:07}.png"
            lines.append(f"{usage},{name},{','.join('10' if i == native else '0' for i in range(10))}")
            if usage == "PrivateTest":
                right[name] = label
    write(root / "fer2013new.csv", "\n".join([f"Usage,Image name,{columns}", *lines]) + "\n")
    return right


def ferplus(base: Path) -> Iterator[Case]:
    root = base / "fp_tables"
    fer_table(root / "fer2013.csv")
    yield Case("FERPlus, both tables", "ferplus", root, votes(root))

    root = base / "fp_images"
    right = {f"images/FER2013Test/{name}": label for name, label in votes(root).items()}
    for name in right:
        picture(root / name)
    yield Case("FERPlus list with images", "ferplus", root, right)

    root = base / "fp_script"
    right = {}
    for split, start in (("FER2013Train", 0), ("FER2013Valid", 7), ("FER2013Test", 14)):
        lines = []
        for native, label in FERPLUS.items():
            name = f"fer{start + native:07}.png"
            picture(root / f"data/{split}/{name}")
            lines.append(f'{name},"(0, 0, 48, 48)",{",".join("10" if i == native else "0" for i in range(10))}')
            if split == "FER2013Test":
                right[f"data/{split}/{name}"] = label
        write(root / f"data/{split}/label.csv", "\n".join(lines) + "\n")
    yield Case("FERPlus FER2013{Train,Valid,Test}/label.csv", "ferplus", root, right)

    root = base / "fp_kaggle"
    classes = {"angry": ANGER, **{name: EIGHT[name] for name in [*EIGHT][1:-1]}, "suprise": SURPRISE}
    for split in ("train", "validation"):
        in_folders(root, split, classes, "a.png")
    right = in_folders(root, "test", classes, "a.png")
    yield Case("FERPlus Kaggle, suprise", "ferplus", root, right)
    yield Case("FERPlus Kaggle, one split", "folder", root / "test", in_folders(root / "test", "", classes, "a.png"))

    root = base / "fp_list"
    right = {f"img/fer{native:07}.png": label for native, label in FERPLUS.items()}
    for name in right:
        picture(root / name)
    write(root / "ferplus_test.txt", "".join(f"fer{native:07}.png {native}\n" for native in FERPLUS))
    yield Case("FERPlus list of paths and labels", "ferplus", root, right)


# ---- sets of the laboratory -------------------------------------------------------------------------------


def ckplus(base: Path) -> Iterator[Case]:
    for emotion, images in (
        ("Emotion", "cohn-kanade-images"),
        ("Emotion_labels/Emotion", "extended-cohn-kanade-images/cohn-kanade-images"),
    ):
        root = base / f"ck {len(emotion)}"
        labels = {}
        for native, label in CKPLUS.items():
            subject = f"S{native:03}"
            for frame in range(1, 6):
                picture(root / f"{images}/{subject}/001/{subject}_001_{frame:08}.png")
            write(root / f"{emotion}/{subject}/001/{subject}_001_00000005_emotion.txt", f"   {native}.0000000e+00\n")
            labels[f"{images}/{subject}/001/{subject}_001_00000005.png"] = label
        yield Case(f"CK+ with {emotion}", "ckplus", root, kept(labels))

    root = base / "ck48"
    classes = {
        **{"anger": ANGER, "contempt": CONTEMPT, "disgust": DISGUST, "fear": FEAR, "happy": HAPPINESS},
        **{"sadness": SADNESS, "surprise": SURPRISE},
    }
    frames: dict[str, int] = {}
    for sequence, (name, label) in enumerate(classes.items(), 1):
        for frame in (15, 16, 17):
            path = f"CK+48/{name}/S010_{sequence:03}_{frame:08}.png"
            picture(root / path)
            if label is not None:
                frames[path] = label
    last = {path: label for path, label in frames.items() if path.endswith("17.png")}
    yield Case("CK+48/<emotion>/", "ckplus", root, last)
    yield Case("CK+48/<emotion>/, three frames", "ckplus", root, frames, {"protocol": "last_three"})
    below = {path.removeprefix("CK+48/"): label for path, label in frames.items()}
    yield Case("CK+48/<emotion>/ as a folder", "folder", root / "CK+48", below)

    root = base / "ck_extended"
    pixels = " ".join(["7"] * 2304)
    write(root / "ckextended.csv", "emotion,pixels,Usage\n" + "".join(f"{i},{pixels},PrivateTest\n" for i in range(8)))
    right = {f"row-{native:05}.png": label for native, label in FER.items()}
    yield Case("ckextended.csv", "ckplus", root, right, refused="numbers the emotions otherwise than CK\\+")
    label_map = "0=angry,1=disgust,2=fear,3=happy,4=sad,5=surprise,6=neutral,7=contempt"
    yield Case("ckextended.csv as a table", "csv", root / "ckextended.csv", right, {"label_map": label_map})


def jaffe(base: Path) -> Iterator[Case]:
    words = dict(zip(CODES, ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"), strict=True))
    for number, form in enumerate(
        ("jaffedbase/KA.{}1.39.tiff", "{word}/KA.{}1.39.tiff", "KA.{}1.39.tiff.jpg", "KA-{}1-39.jpg")
    ):
        root = base / f"jaffe{number}"
        right = {form.format(code, word=words[code]): label for code, label in CODES.items()}
        for name in right:
            picture(root / name)
        yield Case(f"JAFFE {form}", "jaffe", root, right)
        if "word" in form:
            yield Case("JAFFE in folders as a folder", "folder", root, right)


def kdef(base: Path) -> Iterator[Case]:
    words = dict(zip(KDEF, ("afraid", "angry", "disgusted", "happy", "neutral", "sad", "surprised"), strict=True))
    for number, form in enumerate(
        ("KDEF_and_AKDEF/KDEF/AF01/AF01{}{angle}.jpg", "AF01{}{angle}.jpg", "{word}/AF01{}{angle}.jpg")
    ):
        root = base / f"kdef{number}"
        right = {form.format(code, word=words[code], angle="S"): label for code, label in KDEF.items()}
        others = {form.format(code, word=words[code], angle="HL"): label for code, label in KDEF.items()}
        for name in (*right, *others):
            picture(root / name, 64)
        yield Case(f"KDEF {form}", "kdef", root, right)
        if "word" in form:
            yield Case("KDEF in folders as a folder", "folder", root, right | others)


# ---- sets of films and of the web, and one's own ----------------------------------------------------------


def sfew(base: Path) -> Iterator[Case]:
    classes = {name.capitalize(): label for name, label in SEVEN.items()}
    for number, (train, val) in enumerate(
        (
            ("Train/Train_Aligned_Faces", "Val/Val_Aligned_Faces_new"),
            ("Train", "Val"),
            ("Train_Aligned_Faces", "Val_Aligned_Faces"),
            ("", "Val/Val_Aligned_Faces_new/Val_Aligned_Faces"),
        )
    ):
        root = base / f"sfew{number}"
        if train:
            in_folders(root, train, classes, "a.png")
        yield Case(f"SFEW {val}", "sfew", root, in_folders(root, val, classes, "a.png"))
    for number, val in enumerate(("Val", "Val/Val")):
        root = base / f"sfew_frames{number}"
        right = in_folders(root, val, classes, "a.png", side=320)
        yield Case(f"SFEW whole frames in {val}", "sfew", root, right)


def expw(base: Path) -> Iterator[Case]:
    lines = "".join(f"im{native}.jpg 0 10 10 60 60 50.0 {native}\n" for native in FER)
    for index, images in (("data/label/label.lst", "data/image/origin"), ("label.lst", "origin")):
        root = base / f"expw {len(index)}"
        write(root / index, lines)
        right = {f"{images}/im{native}.jpg": label for native, label in FER.items()}
        for name in right:
            picture(root / name, 96)
        yield Case(f"ExpW {index}", "expw", root, right)
        if index.startswith("data/"):
            below = {name.removeprefix("data/"): label for name, label in right.items()}
            yield Case("ExpW --root data", "expw", root / "data", below)


def own(base: Path) -> Iterator[Case]:
    root = base / "imagefolder"
    in_folders(root, "train", SEVEN)
    right = in_folders(root, "test", SEVEN)
    yield Case("image folder with train and test", "folder", root, right, refused="choose with --split")
    yield Case("image folder, --split", "folder", root, right, {"split": "test"})

    root = base / "metadata"
    right = {f"{name}.jpg": label for name, label in SEVEN.items()}
    for name in right:
        picture(root / name)
    write(root / "metadata.csv", "file_name,label\n" + "".join(f"{name}.jpg,{name}\n" for name in SEVEN))
    yield Case("metadata.csv", "csv", root / "metadata.csv", right)


MAKERS: tuple[Callable[[Path], Iterator[Case]], ...] = (
    *(rafdb, affectnet, fer2013, ferplus, ckplus, jaffe, kdef, sfew, expw, own),
)


def all_cases(base: Path) -> list[Case]:
    """Every copy, made below an empty folder."""
    return [case for maker in MAKERS for case in maker(base)]
