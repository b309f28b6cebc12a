"""What is known of each labelled set: layouts, labels, counts and terms."""

from __future__ import annotations

from dataclasses import replace

from motivnet_cli.evaluation.datasets.card import DatasetCard, Published
from motivnet_cli.evaluation.datasets.classes import SYNONYMS
from motivnet_cli.evaluation.datasets.clip_cards import CLIP_CARDS
from motivnet_cli.records import EMOTIONS

FERPLUS_COLUMNS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "nf"),
)
"""The votes in `fer2013new.csv`, in lower case."""


_RAFDB_PROTOCOLS = {
    "aligned": "the aligned crops of 100 x 100 pixels",
    "original": "the original photographs, faces to be found",
}
_RAFDB_TERMS = "Non-commercial research only, by request from an academic address. Do not re-host."
_RAFDB_WHERE = "http://www.whdeng.cn/RAF/model1.html"
_JSON = '{"0": ["a.jpg", ...], ...} in a .json file: a class, and the names of its images (as the reference keeps them)'
_SHARED = (
    "*_{train,test}.txt: path and label of an image on each line, the images anywhere under the root",
    "data.yaml with {train,valid,test}/images/ and {train,valid,test}/labels/ (YOLO)",
    "{train,test}-*.parquet, which hold the pictures (Hugging Face)",
)
_AFFECTNET_LAYOUTS = (
    "{train_set,val_set}/images/*.jpg with {train_set,val_set}/annotations/<id>_exp.npy",
    "Manually_Annotated_file_lists/{training,validation}.csv (with or without a first line of names) with "
    "Manually_Annotated_Images/",
    "{train,val}/<class>/, classes by number or name",
    _JSON,
    *_SHARED,
)
_AFFECTNET_PROTOCOLS = {
    "box": "the faces of the lists, cut by their boxes: the default where the lists are read",
    "image": "the pictures of the lists, taken whole",
}
_AFFECTNET_LABELS = {
    **{str(number): emotion for number, emotion in enumerate(EMOTIONS)},
    **{"7": "contempt", "8": "none", "9": "uncertain", "10": "no face"},
}
_AFFECTNET_TERMS = "Research only, under an agreement that a professor or head of a laboratory signs. Do not re-host."
_AFFECTNET_WHERE = "http://mohammadmahoor.com/pages/databases/affectnet/"
_AFFECTNET_TRAIN = (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882)
_FER_LABELS = {
    **{"0": "anger", "1": "disgust", "2": "fear", "3": "happiness", "4": "sadness", "5": "surprise", "6": "neutral"},
    **{"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "sad": "sadness"},
    **{"surprise": "surprise", "neutral": "neutral"},
}
_OWN_TABLE = DatasetCard(
    name="csv",
    title="Your own: a table of paths and labels (.csv, .tsv)",
    layouts=("a table with a path and a label column, and perhaps subject and x1, y1, x2, y2",),
    labels={},
    faces="auto",
    splits=("all",),
    default_split="all",
    terms="Yours to know.",
    where="yourself",
)

_CARDS = (
    DatasetCard(
        name="rafdb",
        title="RAF-DB, basic emotions (single-label subset)",
        folders=("RAF-DB", "RAF-DB basic"),
        layouts=(
            "EmoLabel/list_patition_label.txt with Image/aligned/ or Image/original/, with or without a leading basic/",
            "{train,test}/<class>/ (Kaggle's DATASET; aligned), classes by number or name",
            *_SHARED,
        ),
        labels={
            **{"1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger"},
            **{"7": "neutral"},
        },
        faces="whole",
        splits=("train", "test"),
        default_split="test",
        split_words={"test": ("test", "val")},
        protocols=_RAFDB_PROTOCOLS,
        default_protocol="aligned",
        counts=(
            Published("train", 12_271, (2_524, 4_772, 1_982, 1_290, 281, 717, 705)),
            Published("test", 3_068, (680, 1_185, 478, 329, 74, 160, 162)),
        ),
        terms=_RAFDB_TERMS,
        where=_RAFDB_WHERE,
    ),
    DatasetCard(
        name="rafdb_compound",
        title="RAF-DB, compound emotions (two-tab subset)",
        folders=("RAF-DB", "RAF-DB compound"),
        layouts=(
            "EmoLabel/list_patition_label.txt with Image/aligned/ or Image/original/, in compound/ or with labels up "
            "to 11",
        ),
        labels={
            **{"1": "happily surprised", "2": "happily disgusted", "3": "sadly fearful", "4": "sadly angry"},
            **{"5": "sadly surprised", "6": "sadly disgusted", "7": "fearfully angry", "8": "fearfully surprised"},
            **{"9": "angrily surprised", "10": "angrily disgusted", "11": "disgustedly surprised"},
        },
        faces="whole",
        splits=("train", "test"),
        default_split="test",
        protocols=_RAFDB_PROTOCOLS,
        default_protocol="aligned",
        terms=_RAFDB_TERMS,
        where=_RAFDB_WHERE,
        notes=(
            "A label names two emotions, and neither alone is right. Nothing is scored unless --label-map says which "
            "one a label counts as, such as 1=happiness,4=anger,5=drop, and the report says that it did.",
            "It is never read as rafdb, whose numbers mean other emotions.",
            "Not confirmed: how many images each split has.",
        ),
    ),
    DatasetCard(
        name="affectnet7",
        title="AffectNet, seven emotions",
        folders=("AffectNet", "AffectNet-7"),
        layouts=_AFFECTNET_LAYOUTS,
        labels=_AFFECTNET_LABELS,
        faces="whole",
        splits=("train", "val"),
        default_split="val",
        split_words={"val": ("val", "test")},
        protocols=_AFFECTNET_PROTOCOLS,
        default_protocol="box",
        counts=(Published("train", 283_901, _AFFECTNET_TRAIN), Published("val", 3_500, (500,) * 7)),
        terms=_AFFECTNET_TERMS,
        where=_AFFECTNET_WHERE,
        notes=(
            "Papers call the val split test: the labels of the true test split are not published.",
            "MotivNet was trained on this set's training split.",
            "Pictures of the lists show more than the face: it is cut by the list's box, unless --protocol is image. "
            "Other layouts hold faces. How MotivNet's training cut them is not confirmed.",
        ),
    ),
    DatasetCard(
        name="affectnet8",
        title="AffectNet with contempt as an eighth class, which is counted and dropped",
        folders=("AffectNet", "AffectNet-8"),
        layouts=_AFFECTNET_LAYOUTS,
        labels=_AFFECTNET_LABELS,
        faces="whole",
        splits=("train", "val"),
        default_split="val",
        split_words={"val": ("val", "test")},
        protocols=_AFFECTNET_PROTOCOLS,
        default_protocol="box",
        counts=(
            Published("train", 283_901, _AFFECTNET_TRAIN, with_contempt=(287_651,)),
            Published("val", 3_500, (500,) * 7, with_contempt=(3_999, 4_000)),
        ),
        terms=_AFFECTNET_TERMS,
        where=_AFFECTNET_WHERE,
        notes=(
            "The images are those of affectnet7; only the check of the counts differs. Published eight-class figures "
            "compare only with --contempt, which keeps the images of contempt.",
        ),
    ),
    DatasetCard(
        name="fer2013",
        title="FER2013",
        folders=("FER2013",),
        layouts=(
            "fer2013.csv (emotion,pixels,Usage), or icml_face_data.csv, which is the same table",
            "{train,test}/<class>/ (Kaggle; its test is Public and Private), or "
            "{Training,PublicTest,PrivateTest}/<class>/",
            "train.csv (emotion,pixels), the first table of the challenge: the training split alone",
            *_SHARED,
        ),
        labels=_FER_LABELS,
        faces="whole",
        splits=("train", "public", "private", "test"),
        default_split="private",
        counts=(
            Published("train", 28_709, (4_965, 7_215, 4_830, 3_171, 4_097, 436, 3_995)),
            Published("public", 3_589, (607, 895, 653, 415, 496, 56, 467)),
            Published("private", 3_589, (626, 879, 594, 416, 528, 55, 491)),
            Published("test", 7_178, (1_233, 1_774, 1_247, 831, 1_024, 111, 958)),
        ),
        terms="No licence is stated; images from a web search, for research.",
        where="https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
        notes=("The split `test` is Public and Private together. In Kaggle's folders only that can be had.",),
    ),
    DatasetCard(
        name="ferplus",
        title="FERPlus (FER+): FER2013's images with ten votes each, by majority",
        folders=("FERPlus", "FER+"),
        layouts=(
            "fer2013new.csv with fer2013.csv, whose rows belong together one by one",
            "fer2013new.csv with the images that it names (fer0000000.png and so on) anywhere under the root",
            "{FER2013Train,FER2013Valid,FER2013Test}/label.csv with the images beside it",
            "{train,validation,test}/<class>/",
            *_SHARED,
        ),
        labels={
            **{name: name for name in FERPLUS_COLUMNS if name in EMOTIONS},
            **{str(number): name for number, name in enumerate(FERPLUS_COLUMNS[:8])},
            **{"contempt": "contempt", "unknown": "unknown", "nf": "no face"},
        },
        faces="whole",
        splits=("train", "valid", "test"),
        default_split="test",
        split_words={"valid": ("val", "public"), "test": ("test", "private")},
        counts=(
            Published("train", None, with_contempt=(25_060,)),
            Published("valid", None, with_contempt=(3_199,)),
            Published("test", 3_137, with_contempt=(3_153,)),
        ),
        terms="The votes are published under Microsoft's terms in their repository; the images are FER2013's.",
        where="https://github.com/microsoft/FERPlus",
        notes=(
            "Majority rule: rows without an image name are dropped, single votes become 0, and the label is what more "
            "than half of the remaining votes say.",
            "Predictions are also compared with the votes themselves, and so with all annotators.",
            "Several rows share four image names: with fer2013.csv they go by their number, and as files they are "
            "dropped, since a file shows one of them.",
        ),
    ),
    DatasetCard(
        name="ckplus",
        title="Extended Cohn-Kanade (CK+)",
        folders=("CK+", "CKPlus", "CK+48"),
        layouts=(
            "cohn-kanade-images/S005/001/*.png with Emotion/S005/001/*_emotion.txt",
            "CK+48/<emotion>/S010_004_00000017.png and so on: faces of the last three frames (Kaggle)",
            "ckextended.csv, which is answered with the call that reads it: its numbers are not CK+'s",
        ),
        labels={
            **{"0": "neutral", "1": "anger", "2": "contempt", "3": "disgust", "4": "fear", "5": "happiness"},
            **{"6": "sadness", "7": "surprise"},
        },
        faces="auto",
        splits=("all",),
        default_split="all",
        protocols={
            "last_frame": "the last frame of each labelled sequence",
            "last_frame_neutral": "the last frame, and the first as neutral",
            "last_three": "the last three frames of each labelled sequence",
            "last_three_neutral": "the last three frames, and the first as neutral",
        },
        default_protocol="last_frame",
        counts=(
            Published("all", 309, (0, 69, 28, 83, 25, 59, 45), (327,), protocol="last_frame"),
            Published("all", 618, (309, 69, 28, 83, 25, 59, 45), protocol="last_frame_neutral"),
            Published("all", 927, (0, 207, 84, 249, 75, 177, 135), (981,), protocol="last_three"),
            Published("all", 1_236, (309, 207, 84, 249, 75, 177, 135), protocol="last_three_neutral"),
        ),
        terms="Research only, under a signed agreement. Do not re-host.",
        where="https://www.jeffcohn.net/resources/",
        notes=(
            "Papers differ in the frames they take: only figures of one protocol compare.",
            "Without first frames no image is neutral: --argmax labelled predicts among the other classes.",
        ),
    ),
    DatasetCard(
        name="jaffe",
        title="JAFFE (Japanese Female Facial Expression)",
        folders=("JAFFE", "jaffedbase"),
        layouts=("KA.AN1.39.tiff and so on, in one folder or in one for each emotion",),
        labels={code: SYNONYMS[code] for code in ("ne", "ha", "sa", "su", "fe", "di", "an")},
        faces="auto",
        splits=("all",),
        default_split="all",
        counts=(Published("all", 213, (30, 31, 31, 30, 32, 29, 30)),),
        terms="Non-commercial research only, by request. Do not re-host.",
        where="https://zenodo.org/records/3451524",
    ),
    DatasetCard(
        name="kdef",
        title="KDEF (Karolinska Directed Emotional Faces)",
        folders=("KDEF", "KDEF and AKDEF"),
        layouts=("AF01/AF01AFS.JPG and so on: session, sex, number, expression, angle; or in folders by emotion",),
        labels={
            **{code: SYNONYMS[code] for code in ("ne", "ha", "sa", "su", "di", "an")},
            "af": "fear",
        },
        faces="auto",
        splits=("all",),
        default_split="all",
        protocols={"frontal": "the frontal pictures (angle S)", "all_angles": "all five angles"},
        default_protocol="frontal",
        counts=(
            Published("all", 980, (140,) * 7, protocol="frontal"),
            Published("all", 4_900, (700,) * 7, protocol="all_angles"),
        ),
        terms="Non-commercial research only, under the authors' terms. Do not re-host.",
        where="https://kdef.se/",
    ),
    DatasetCard(
        name="sfew",
        title="SFEW 2.0 (Static Facial Expressions in the Wild)",
        folders=("SFEW", "SFEW 2.0"),
        layouts=("{Train,Val}/<class>/, perhaps with Train_Aligned_Faces or Val_Aligned_Faces_new on the way",),
        labels={name: meaning for name, meaning in _FER_LABELS.items() if not name.isdigit()},
        faces="whole",
        splits=("train", "val"),
        default_split="val",
        protocols={"aligned": "the aligned faces", "frames": "the whole frames, faces to be found"},
        default_protocol="aligned",
        counts=(
            Published("train", 891, (144, 184, 161, 94, 78, 52, 178), protocol="aligned"),
            Published("val", 431, (84, 72, 73, 56, 46, 23, 77), protocol="aligned"),
            Published("train", 958, protocol="frames"),
            Published("val", 436, protocol="frames"),
        ),
        terms="Research only, under a signed agreement. Do not re-host.",
        where="https://users.cecs.anu.edu.au/~few_group/AFEW.html",
        notes=("The labels of the test split are withheld: papers report on val.",),
    ),
    DatasetCard(
        name="expw",
        title="ExpW (Expression in-the-Wild)",
        folders=("ExpW",),
        layouts=("label.lst (name, face, top, left, right, bottom, confidence, label) with the images it names",),
        labels={name: _FER_LABELS[name] for name in _FER_LABELS if name.isdigit()},
        faces="given",
        splits=("all",),
        default_split="all",
        counts=(Published("all", 91_793, (34_883, 30_537, 10_559, 7_060, 1_088, 3_995, 3_671)),),
        terms="Research only, unlicensed images from a web search. Do not re-host.",
        where="http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html",
        notes=("It has no official split: papers that report on a part of it do not compare.",),
    ),
    DatasetCard(
        name="mmafedb",
        title="MMAFEDB (MMA Facial Expression, Kaggle)",
        folders=("MMAFEDB", "MMA FEDB"),
        layouts=("{train,valid,test}/<class>/",),
        labels={name: _FER_LABELS[name] for name in _FER_LABELS if not name.isdigit()},
        faces="whole",
        splits=("train", "val", "test"),
        default_split="test",
        counts=(
            Published("train", 92_968, (29_384, 28_592, 12_223, 8_113, 4_859, 3_231, 6_566)),
            Published("val", 17_356, (5_839, 5_475, 2_236, 1_474, 659, 656, 1_017)),
            Published("test", 17_356, (5_858, 5_459, 2_177, 1_475, 691, 655, 1_041)),
        ),
        terms="Not confirmed: see its page.",
        where="https://www.kaggle.com/datasets/mahmoudima/mma-facial-expression",
        notes=(
            "Of each split as many images as FER2013 has there (28,709 and twice 3,589) are stored in colour and the "
            "rest in grey: it probably holds FER2013's, so a model that was trained on those may have seen them. Not "
            "confirmed, nor where the others are from.",
            "The counts are a public reader's, not its makers'.",
        ),
    ),
    DatasetCard(
        name="caers",
        title="CAER-S (Context-Aware Emotion Recognition, static)",
        folders=("CAER-S",),
        layouts=("{train,test}/<class>/",),
        labels={
            **{"anger": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "neutral": "neutral"},
            **{"sad": "sadness", "surprise": "surprise"},
        },
        faces="auto",
        splits=("train", "test"),
        default_split="test",
        terms="Not confirmed: ask the authors.",
        where="https://caer-dataset.github.io/",
        notes=(
            "Whole frames of television series. The set does not say which of several people its label is of: the "
            "largest face is taken, and may be another's.",
            "Not confirmed: how many images each split has (about 70,000 in all).",
        ),
    ),
    DatasetCard(
        name="oulucasia",
        title="Oulu-CASIA NIR&VIS: six emotions, two cameras, three lightings",
        folders=("Oulu-CASIA", "Oulu-CASIA NIR&VIS", "Oulu-CASIA NIR VIS"),
        layouts=(
            "OriginalImg/{VL,NI}/{Strong,Weak,Dark}/P001/<emotion>/000.jpeg and so on, with or without OriginalImg/",
            "{VL,NI}_Acropped/{Strong,Weak,Dark}/P001/<emotion>/ (cropped faces), perhaps in PreProcess_Img/",
        ),
        labels={
            **{"anger": "anger", "disgust": "disgust", "fear": "fear", "happiness": "happiness"},
            **{"sadness": "sadness", "surprise": "surprise", "neutral": "neutral"},
        },
        faces="auto",
        splits=("all",),
        default_split="all",
        protocols={
            "vl_strong": "visible light, strong lighting: the last three frames of each sequence",
            "vl_strong_last": "the last frame alone",
            "vl_strong_neutral": "the last three frames, and the first as neutral",
            **{
                f"{camera}_{lighting.split()[0]}": f"{name}, {lighting}: the last three frames"
                for camera, name in (("vl", "visible light"), ("ni", "near infrared"))
                for lighting in ("strong lighting", "weak lighting", "dark")
                if (camera, lighting) != ("vl", "strong lighting")
            },
        },
        default_protocol="vl_strong",
        counts=(
            Published("all", 1_440, (0, *(240,) * 6), protocol="vl_strong"),
            Published("all", 480, (0, *(80,) * 6), protocol="vl_strong_last"),
            Published("all", 1_920, (480, *(240,) * 6), protocol="vl_strong_neutral"),
        ),
        terms="Research only, by request. Do not re-host.",
        where="http://www.cse.oulu.fi/CMV/Downloads/Oulu-CASIA",
        notes=(
            "80 persons with six emotions each. Papers take the last three frames in visible light and strong "
            "lighting, and test in ten folds of persons: a figure of all images compares with the mean over the folds.",
            "Not confirmed: the terms, and that all 480 sequences are in every copy (a public reader of the cropped "
            "faces counts 479).",
        ),
    ),
    *CLIP_CARDS,
    DatasetCard(
        name="folder",
        title="Your own: folders named by emotion",
        layouts=(
            "<emotion>/**/*.jpg: happy, Happiness, 1_happy, angry, anger and so on, in any case",
            "{train,val,test}/<emotion>/**/*.jpg, with --split",
            _JSON,
        ),
        labels={},
        faces="auto",
        splits=("all", "train", "val", "test", "public", "private"),
        default_split="all",
        terms="Yours to know.",
        where="yourself",
    ),
    _OWN_TABLE,
    replace(_OWN_TABLE, name="parquet", title="Your own: a table of paths and labels (.parquet)"),
)
CARDS: dict[str, DatasetCard] = {card.name: card for card in _CARDS}
"""The sets by name. Terms are as we read them, not legal advice.

The counts per emotion (RAF-DB's and AffectNet's val apart) and AffectNet's training split are as commonly reported:
each adds up to the published total, and none was counted on the set itself.
"""
