"""What is known of the sets whose units are clips: layouts, labels, counts and terms."""

from __future__ import annotations

from motivnet_cli.evaluation.datasets.card import DatasetCard, Published
from motivnet_cli.evaluation.datasets.classes import SYNONYMS
from motivnet_cli.records import EMOTIONS

_SEVEN_NAMES = {name: SYNONYMS[name] for name in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")}
_FOLDS = ("fold1", "fold2", "fold3", "fold4", "fold5")

CLIP_CARDS = (
    DatasetCard(
        name="dfew",
        title="DFEW (Dynamic Facial Expression in-the-Wild), clips with a single label",
        folders=("DFEW",),
        layouts=(
            "EmoLabel_DataSplit/test(single-labeled)/set_{1..5}.csv with Clip/clip_224x224/00001/*.jpg (or "
            "clip_224x224_avi/), Clip/clip_224x224_16f/ or Clip/original/*.mp4",
        ),
        labels={
            **{"1": "happiness", "2": "sadness", "3": "neutral", "4": "anger", "5": "surprise", "6": "disgust"},
            **{"7": "fear"},
        },
        faces="whole",
        splits=("all", *_FOLDS),
        default_split="all",
        protocols={
            "aligned": "the authors' aligned faces, every frame (clip_224x224)",
            "aligned_16f": "the authors' 16 faces a clip, interpolated in time (clip_224x224_16f)",
            "original": "the original videos, faces to be found",
        },
        default_protocol="aligned",
        counts=(
            Published("all", 11_697),
            *(Published(fold, n) for fold, n in zip(_FOLDS, (2_341, 2_341, 2_340, 2_339, 2_336), strict=True)),
        ),
        terms="Non-commercial research and education only, by request. Do not re-host.",
        where="https://dfew-dataset.github.io/",
        notes=(
            "fold1 to fold5 are the test clips of the five folds; all is every one of them once, for a model that was "
            "not trained on the set. Papers report the mean of the five WAR and UAR.",
            "The lists leave out 362 of 12,059 clips, in which the authors found no face.",
        ),
    ),
    DatasetCard(
        name="ferv39k",
        title="FERV39k, all scenes",
        folders=("FERV39k",),
        layouts=("4_setups/All_scenes/{train,test}_All.csv with 2_ClipsforFaceCrop/Action/Happy/0001/*.jpg and so on",),
        labels=_SEVEN_NAMES,
        faces="whole",
        splits=("train", "test"),
        default_split="test",
        counts=(Published("train", 31_088), Published("test", 7_847)),
        terms="Research only, under a signed agreement. Do not re-host.",
        where="https://wangyanckxx.github.io/Proj_CVPR2022_FERV39k.html",
        notes=(
            "Not confirmed: the counts of the splits are as papers report them; they add up to the 38,935 clips of the "
            "set. Nor the terms.",
        ),
    ),
    DatasetCard(
        name="mafw",
        title="MAFW, clips with a single expression",
        folders=("MAFW",),
        layouts=(
            "Train & Test Set/single/no_caption/set_{1..5}/test.txt (or split/single/...) with data/clips/*.mp4, "
            "data/frames/00001/*.png or data/faces/00001/",
        ),
        labels={
            **{name: name for name in EMOTIONS},
            **{name: name for name in ("contempt", "anxiety", "helplessness", "disappointment")},
        },
        faces="auto",
        splits=("all", *_FOLDS),
        default_split="all",
        protocols={
            "original": "the videos, faces to be found",
            "frames": "folders of frames, faces to be found",
            "faces": "folders of face crops",
        },
        default_protocol="original",
        counts=(Published("all", 7_576, (1_138, 1_242, 1_470, 1_072, 625, 639, 1_390), with_contempt=(7_812,)),),
        terms="Non-commercial research only, by a signed request from a university. Do not re-host.",
        where="https://github.com/MAFW-database/MAFW",
        notes=(
            "fold1 to fold5 are the test clips of the five folds; all is every one of them once.",
            "Papers score eleven classes; here the four that are none of ours are counted and dropped, so figures do "
            "not compare with theirs.",
            "Not confirmed: whether the pictures of data/frames are face crops. Faces are looked for in them; "
            "--faces whole takes them as they are.",
        ),
    ),
    DatasetCard(
        name="afew",
        title="AFEW (Acted Facial Expressions in the Wild), as in EmotiW 2017",
        folders=("AFEW", "EmotiW2017"),
        layouts=("{Train_AFEW,Val_AFEW}/{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}/*.avi, or Train/ and Val/",),
        labels=_SEVEN_NAMES,
        faces="auto",
        splits=("train", "val"),
        default_split="val",
        counts=(
            Published("train", 773, (144, 150, 117, 74, 81, 74, 133)),
            Published("val", 383, (63, 63, 61, 46, 46, 40, 64)),
        ),
        terms="Research only, under a signed agreement. Do not re-host.",
        where="https://users.cecs.anu.edu.au/~few_group/AFEW.html",
        notes=(
            "The labels of the test split are withheld: papers report on val.",
            "Clips may be folders of frames. Faces are looked for in them; --faces whole takes face crops as they are.",
            "not confirmed: the terms, which are written as those of SFEW; the counts are as EmotiW 2016 has them.",
        ),
    ),
    DatasetCard(
        name="ravdess",
        title="RAVDESS, videos of speech and song",
        folders=("RAVDESS",),
        layouts=("Actor_01/01-01-06-01-02-01-12.mp4 and so on, or Video_Speech_Actor_01/Actor_01/",),
        labels={
            **{"01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear"},
            **{"07": "disgust", "08": "surprise"},
        },
        faces="auto",
        splits=("all",),
        default_split="all",
        protocols={"speech": "spoken", "song": "sung", "speech_and_song": "both"},
        default_protocol="speech",
        counts=(
            Published("all", 1_248, (96, 192, 192, 192, 192, 192, 192), protocol="speech"),
            Published("all", 828, (92, 184, 184, 0, 184, 0, 184), protocol="song"),
            Published("all", 2_076, (188, 376, 376, 192, 376, 192, 376), protocol="speech_and_song"),
        ),
        terms="CC BY-NC-SA 4.0.",
        where="https://zenodo.org/records/1188976",
        notes=(
            "Labels are what the actors were asked to show. Calm is none of the seven emotions, and dropped.",
            "Each recording comes with sound (01-...) and without (02-...): it counts once.",
            "It has no official split: papers that report on a part of the actors do not compare.",
        ),
    ),
    DatasetCard(
        name="cremad",
        title="CREMA-D",
        folders=("CREMA-D",),
        layouts=("VideoFlash/1001_DFA_ANG_XX.flv and so on, or these videos in one folder",),
        labels={code: SYNONYMS[code] for code in ("ang", "dis", "fea", "hap", "neu", "sad")},
        faces="auto",
        splits=("all",),
        default_split="all",
        counts=(Published("all", 7_442, (1_087, 1_271, 1_271, 0, 1_271, 1_271, 1_271)),),
        terms="Open Database License; its contents under the Database Contents License.",
        where="https://github.com/CheyneyComputerScience/CREMA-D",
        notes=(
            "Labels are what the actors were asked to show, not what raters saw. No clip is of surprise.",
            "It has no official split: papers that report on a part of the actors do not compare.",
            "The videos are in Git LFS: without it, their files are pointers of a few lines and cannot be read.",
        ),
    ),
    DatasetCard(
        name="mmi",
        title="MMI, recordings with one of six emotions",
        folders=("MMI",),
        layouts=("Sessions/<number>/ with session.xml, S001-001.avi and S001-001.xml (Metatag Emotion)",),
        labels={"1": "anger", "2": "disgust", "3": "fear", "4": "happiness", "5": "sadness", "6": "surprise"},
        faces="auto",
        splits=("all",),
        default_split="all",
        protocols={
            "frontal": "recordings from the front",
            "frontal_and_dual": "those, and recordings of front and profile side by side: the larger face counts",
        },
        default_protocol="frontal",
        terms="Research only, under a signed agreement. Do not re-host.",
        where="https://mmifacedb.eu/",
        notes=(
            "A recording goes from a neutral face to the apex and back, and most do not say where the apex is. All its "
            "frames are pooled, the neutral ends among them; --clip top takes those with the strongest expression. "
            "Papers take three frames about the apex: their figures do not compare.",
            "Public readers turn some of the frontal recordings by 90 degrees. They are read as they are: a face that "
            "lies on its side may be missed.",
            "Sessions without an emotion are counted and not used. Not confirmed: how many with one there should be.",
        ),
    ),
)
"""Counts of MAFW and CREMA-D are as public readers counted their labels, those of RAVDESS follow from its design, and
those of DFEW stand in its own read-me."""
