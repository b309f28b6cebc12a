"""The models that motivnet knows by name: what each is, which input it takes, and its terms.

Opens no file and imports no torch, so that `motivnet models` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

DEFAULT_MODEL = "motivnet-1b"
Architecture = Literal["motivnet", "sapiens", "expression-net", "head"]
"""`motivnet` is a Sapiens encoder with a head that classifies emotions, `sapiens` the encoder alone, and `head` a
classifier of another model's embeddings, of which the catalogue has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a user should know about a model before relying on it, and how its input is prepared."""

    name: str
    architecture: Architecture
    title: str
    about: str
    recipes: tuple[str, ...]
    """The input recipes of `faces.crop` that fit it; the first is the default."""
    margin: float
    """The crop is a square of (1 + margin) times the height of the face box."""
    align: bool = False
    """Rotate crops until the eyes are level by default."""
    whole: bool = False
    """Learned here from pictures that were crops of faces already: faces that are cut out were not tried."""
    fill_rgb: tuple[int, int, int]
    """RGB, 0 to 255, of the part of a crop that lies outside the picture."""
    flip: bool
    """Average with the horizontal mirror image by default."""
    cpu_batch_size: int
    """Faces in one pass on a CPU."""
    batch_tolerance: float
    """How far a face's numbers in fp32 may be apart in two batches: a matrix product of another size takes its sums in
    another order. Of embeddings, relative to values above one."""
    single_thread: bool
    """More than one thread would slow this network down: it is too small (benchmarks/README.md)."""
    embedded: bool
    """The weights ship inside the package."""
    url: str | None
    """Where `motivnet download-weights` downloads them from; None for the embedded model."""
    download_bytes: int | None
    """Approximate size of that download, of a Sapiens file that of its encoder; None where it is not known."""
    terms: str
    """The licence of the weights, or what is known of it."""
    sources: str
    """Where network and weights come from."""
    limits: tuple[str, ...]
    """What was not verified, and where the model is known to fail."""


_MOTIVNET = ModelCard(
    name="motivnet-1b",
    architecture="motivnet",
    title="MotivNet (Sapiens-1B encoder, ML-Decoder head), 1,161,033,863 parameters",
    about=(
        "Seven emotions (neutral, happiness, sadness, surprise, fear, disgust, anger) and a 1536-number "
        "embedding from a 1024 x 768 face crop; trained on AffectNet. arXiv 2512.24231."
    ),
    recipes=("stretch", "pad", "stretch-224"),
    margin=0.3,
    fill_rgb=(124, 116, 104),
    flip=False,
    cpu_batch_size=1,
    batch_tolerance=1e-4,
    single_thread=False,
    embedded=False,
    url=(
        "https://buckeyemailosu-my.sharepoint.com/:u:/g/personal/medicharla_2_buckeyemail_osu_edu/"
        "IQD5Yo67QSPXQJluT1mCEZ4uAbm9hxWWIC1bXf7l43S9X3w?e=H7vRd4"
    ),
    download_bytes=4_644_000_000,
    terms=(
        "No licence is stated for MotivNet.pth. It derives from Sapiens (CC BY-NC 4.0) and AffectNet "
        "(research only): treat it as non-commercial research use. Do not re-host it."
    ),
    sources="OSUPCVLab/EmotionFromFaceImages; encoder: facebook/sapiens on the Hugging Face hub",
    limits=(
        "Which input recipe the weights want is undecided: the reference's training loader does `stretch`, its "
        "inference script since 30 December 2025 `pad`. AffectNet's eight-label release is 224 x 224, and the loader "
        "may have enlarged that, as `stretch-224` does; how the release was shrunk is not known. `stretch` is the "
        "default by convention; `motivnet evaluate --recipe all` compares the three on a labelled set.",
        "The margin of 0.3 is not from the reference, which crops nothing. AffectNet's own boxes seem to be 0.9 times "
        "as high as ours, which puts its images at a margin of 0.15 to 0.2 (by 34 faces, none of them AffectNet's): "
        "`motivnet evaluate --margin 0.15,0.2,0.3` compares margins.",
        "About 9.3 TFLOP a face: on two CPU cores one to two minutes in fp32, and ten seconds or more in bf16.",
    ),
)


class SapiensSize(NamedTuple):
    """A size of the Sapiens v1 family (arXiv 2408.12569), and its files on the Hugging Face hub."""

    label: str
    width: int
    """Of a token, and so of an embedding."""
    depth: int
    heads: int
    """No rule of the width gives all four."""
    mlp: int
    num_parameters: int
    """Of the encoder for an input of 1024 x 768 pixels."""
    pose_file: str | None
    """Of `facebook/sapiens-pose-*`; None where none was published."""
    pretrained_file: str
    """Of `facebook/sapiens-pretrain-*`."""

    @property
    def pose_name(self) -> str:
        """Of the card of its pose encoder."""
        return f"sapiens-{self.label.lower()}"

    @property
    def pretrained_name(self) -> str:
        """Of the card of its encoder as pretrained."""
        return f"{self.pose_name}-pretrained"

    @property
    def tflop(self) -> float:
        """Of a face: two for each weight of the blocks and token, and those of attention."""
        tokens = 64 * 48
        block = 2 * tokens * (4 * self.width**2 + 2 * self.width * self.mlp) + 4 * tokens**2 * self.width
        return self.depth * block / 1e12


SAPIENS_SIZES = (
    SapiensSize(
        *("0.3B", 1024, 24, 16, 4096, 306_244_608),
        pose_file="sapiens_0.3b_goliath_best_goliath_AP_573.pth",
        pretrained_file="sapiens_0.3b_epoch_1600_clean.pth",
    ),
    SapiensSize(
        *("0.6B", 1280, 32, 16, 5120, 634_597_120),
        pose_file="sapiens_0.6b_goliath_best_goliath_AP_609.pth",
        pretrained_file="sapiens_0.6b_epoch_1600_clean.pth",
    ),
    SapiensSize(
        *("1B", 1536, 40, 24, 6144, 1_139_163_648),
        # The reference's own lists say AP_640, and its 0.3B and 0.6B are other files there, too; who downloads from the
        # hub names AP_639.
        pose_file="sapiens_1b_goliath_best_goliath_AP_639.pth",
        pretrained_file="sapiens_1b_epoch_173_clean.pth",
    ),
    SapiensSize(
        *("2B", 1920, 48, 32, 7680, 2_131_943_040),
        pose_file=None,
        pretrained_file="sapiens_2b_epoch_660_clean.pth",
    ),
)


def _sapiens(size: SapiensSize, kind: Literal["pose", "pretrained"], file: str) -> ModelCard:
    is_pose = kind == "pose"
    repository = f"facebook/sapiens-{'pose' if is_pose else 'pretrain'}-{size.label.lower()}"
    return replace(
        _MOTIVNET,  # takes the same input
        name=size.pose_name if is_pose else size.pretrained_name,
        architecture="sapiens",
        title=f"Sapiens-{size.label}, {kind} encoder, {size.num_parameters:,} parameters",
        about=(
            f"A {size.width}-number embedding from a 1024 x 768 crop, and no emotion columns; about {size.tflop:.1f} "
            "TFLOP a face. "
            + (
                "Trained further to find 308 points of the body."
                if is_pose
                else "As pretrained at 1024 x 1024: its position table is resized, and its class token dropped."
            )
        ),
        url=f"hf://{repository}/{file}",
        download_bytes=4 * size.num_parameters,
        terms="Sapiens v1 code and weights: CC BY-NC 4.0 (attribution, no commercial use).",
        sources=f"{repository} on the Hugging Face hub; arXiv 2408.12569",
        limits=(
            "No file of this family was ever loaded here: the names of files and tensors, and the sizes, are those of "
            "its code, its configurations and users of the hub. Pretrained files go by names without `_clean`, too: "
            "say --url, or --from-file.",
            "Which Sapiens checkpoint MotivNet started from is not published. Its layout is that of the 1B pose "
            "encoder.",
            "On two CPU cores a face takes 1B one to two minutes in fp32, and ten seconds or more in bf16; the others "
            "by their TFLOP.",
        ),
    )


_SAPIENS = (
    *(_sapiens(size, "pose", size.pose_file) for size in SAPIENS_SIZES if size.pose_file),
    *(_sapiens(size, "pretrained", size.pretrained_file) for size in SAPIENS_SIZES),
)

_EXPRESSION_NET = ModelCard(
    name="expression-net",
    architecture="expression-net",
    title="FaceExpressionNet of face-api, 323,687 parameters, inside this package",
    about=(
        "Seven emotions and a 256-number embedding from a 112 x 112 face crop; about 10 ms a face on one "
        "CPU core. For trying the tool, tests, and machines without MotivNet's weights. It is not MotivNet."
    ),
    recipes=("letterbox",),
    margin=0.3,
    fill_rgb=(0, 0, 0),
    flip=True,
    cpu_batch_size=16,
    batch_tolerance=1e-5,
    single_thread=True,
    embedded=True,
    url=None,
    download_bytes=None,
    terms=(
        "MIT (npm package @vladmandic/face-api 1.7.15, from justadudewhohacks/face-api.js); no separate "
        "licence for the weights; trained on public datasets and images scraped from the web."
    ),
    sources="face_expression_model of @vladmandic/face-api 1.7.15, converted to safetensors",
    limits=(
        "No accuracy was published. On 28 faces labelled by eye (16 neutral, 10 happiness, 2 surprise) it "
        "named 0.86 to 0.89 correctly with mirror averaging; always answering neutral scores 0.57.",
        "Sadness, fear, disgust and anger were never verified: not one such face was among those 28.",
        "Mouths open in speech are often read as happiness or surprise.",
    ),
)

CARDS = {card.name: card for card in (_MOTIVNET, *_SAPIENS, _EXPRESSION_NET)}


def fill_rgb_of(recipe: str) -> tuple[int, int, int] | None:
    """The colour around the pictures of all models that take an input recipe; None where none does."""
    return next((card.fill_rgb for card in CARDS.values() if recipe in card.recipes), None)


def recorded_name(name: str | None, weights: str | None) -> str:
    """What a run calls its model: the name of the weights file if one is given, else the model's.

    Args:
        name: Of the model; None is the default model.
        weights: Path of a checkpoint file.
    """
    if weights is None:
        return name or DEFAULT_MODEL
    file = Path(weights).name
    return file if file.isprintable() else file.encode("unicode_escape", "surrogatepass").decode()
