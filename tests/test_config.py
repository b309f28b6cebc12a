"""Settings: each says whether it changes the output, and wrong values name themselves."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace

import pytest

from motivnet_cli.config import (
    Corruption,
    FaceConfig,
    InputConfig,
    LoaderConfig,
    ModelConfig,
    OutputConfig,
    RunConfig,
    ScaleConfig,
    VideoConfig,
    settings_that_change_output,
)
from motivnet_cli.errors import ConfigError
from motivnet_cli.shards import Shard

CONFIG = RunConfig(inputs=InputConfig(paths=("a",)), output=OutputConfig(path="p.parquet"))
RAY_ONLY = ("ray_address", "workers", "gpus_per_worker", "cpus_per_worker")
OTHER_VALUES = {
    "follow_links": False,
    "allow_schemes": ("abfs",),
    "allow_private": True,
    "staging": "folder",
    "paths": ("b",),
    "recursive": False,
    "include": ("*.jpg",),
    "exclude": ("*.png",),
    "files_from": ("list",),
    "files0_from": ("list",),
    "manifests": ("m.csv",),
    "path_column": "image",
    "keep": ("id",),
    "fps": 2.0,
    "every": None,
    "start_s": 1.0,
    "end_s": 9.0,
    "backend": "pyav",
    "track": True,
    "extend": True,
    "hash_contents": True,
    "stream_format": "arrow",
    "command": "other",
    "name": "expression-net",
    "weights": "w.pth",
    "store": "/models",
    "recipe": "pad",
    "flip": True,
    "precision": "bf16",
    "compile": True,
    "device": "cpu",
    "batch_size": 3,
    "mode": "whole",
    "detector": "blazeface",
    "margin": 0.5,
    "align": True,
    "detection_size": 1280,
    "min_face": 9,
    "max_roll": 45.0,
    "min_sharpness": 20.0,
    "landmarks": False,
    "max_faces": 2,
    "min_confidence": 0.9,
    "threads": 3,
    "max_pixels": 1000,
    "input_timeout_s": 9.0,
    "corruption": Corruption("noise", 3),
    "path": "other",
    "embeddings": "none",
    "overwrite": True,
    "box_columns": "x1,y1,x2,y2",
    "relative_to": "/photos",
    "absolute": True,
    "retry_failed": True,
    "commit_seconds": 1.0,
    "engine": "ray",
    "ray_address": "auto",
    "workers": 3,
    "gpus_per_worker": 0.5,
    "cpus_per_worker": 2,
    "devices": ("cpu", "cpu"),
    "shard": Shard(1, 2),
}


def every_setting():
    for outer in fields(RunConfig):
        value = getattr(CONFIG, outer.name)
        if is_dataclass(value):
            yield from ((outer.name, inner.name, inner.metadata["changes_output"]) for inner in fields(value))
        else:
            yield None, outer.name, outer.metadata["changes_output"]


@pytest.mark.parametrize(("part", "name", "changes"), list(every_setting()))
def test_fingerprint_moves_exactly_with_what_changes_the_output(part, name, changes):
    """A setting that changes rows changes the fingerprint; one that does not, does not."""
    value = OTHER_VALUES[name]
    if name == "every":  # it stands in place of fps
        other = replace(CONFIG, video=VideoConfig(fps=None, every=3))
    elif name in RAY_ONLY:
        other = replace(CONFIG, scale=ScaleConfig(engine="ray", **{name: value}))
    elif part is None:
        other = replace(CONFIG, **{name: value})
    else:
        other = replace(CONFIG, **{part: replace(getattr(CONFIG, part), **{name: value})})

    assert (settings_that_change_output(other) != settings_that_change_output(CONFIG)) is changes


def test_a_setting_that_does_not_say_is_refused():
    """A new field must say whether it changes the output."""

    @dataclass(frozen=True)
    class Forgetful:
        new: int = 1

    with pytest.raises(TypeError, match=r"Forgetful\.new"):
        settings_that_change_output(Forgetful())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ModelConfig(batch_size=0), "got 0"),
        (lambda: ModelConfig(device="gpu"), "got 'gpu'"),
        (lambda: FaceConfig(margin=-0.1), r"got -0\.1"),
        (lambda: FaceConfig(mode="whole", align=True), "--align goes by the eyes"),
        (lambda: FaceConfig(mode="whole", min_face=9), "go by faces that a detector finds"),
        (lambda: FaceConfig(mode="whole", max_roll=0.0), "go by faces that a detector finds"),
        (lambda: FaceConfig(mode="whole", min_sharpness=9.0), "go by faces that a detector finds"),
        (lambda: FaceConfig(min_face=-1), "got -1"),
        (lambda: FaceConfig(max_roll=-1.0), "got -1"),
        (lambda: FaceConfig(max_roll=181.0), "got 181"),
        (lambda: FaceConfig(min_sharpness=-1.0), "got -1"),
        (lambda: FaceConfig(min_sharpness=float("nan")), "got nan"),
        (lambda: FaceConfig(max_faces=0), "got 0"),
        (lambda: FaceConfig(min_confidence=1.5), r"got 1\.5"),
        (lambda: LoaderConfig(threads=0), "got 0"),
        (lambda: LoaderConfig(max_pixels=0), "got 0"),
        (lambda: OutputConfig(path=""), "needs a name"),
        (lambda: OutputConfig(path="p", overwrite=True, retry_failed=True), "only one of"),
        (lambda: OutputConfig(path="p", commit_seconds=-1), "got -1"),
        (InputConfig, "no inputs"),
        (lambda: VideoConfig(every=2), "not both"),
        (lambda: VideoConfig(fps=0), "got 0"),
        (lambda: VideoConfig(fps=None, every=0), "got 0"),
        (lambda: VideoConfig(start_s=3, end_s=2), "got 3 to 2"),
        (
            lambda: replace(CONFIG, video=VideoConfig(track=True), output=OutputConfig(path="p", embeddings="none")),
            "--track",
        ),
        (lambda: ScaleConfig(workers=2), "are for --engine ray"),
        (lambda: ScaleConfig(engine="ray", devices=("cpu",)), "leave out --devices"),
        (lambda: ScaleConfig(engine="ray", workers=0), "got 0"),
        (lambda: ScaleConfig(engine="ray", gpus_per_worker=2), "got 2"),
        (lambda: ScaleConfig(engine="ray", cpus_per_worker=0), "got 0"),
        (
            lambda: replace(CONFIG, scale=ScaleConfig(engine="ray"), model=ModelConfig(device="cuda:1")),
            "give --device cuda",
        ),
        (
            lambda: replace(
                CONFIG, scale=ScaleConfig(engine="ray", gpus_per_worker=0), model=ModelConfig(device="cuda")
            ),
            "0 GPUs per worker",
        ),
        (lambda: replace(CONFIG, scale=ScaleConfig(engine="ray"), output=OutputConfig(path="-")), "one process only"),
    ],
)
def test_wrong_values_name_themselves(make, said):
    """A wrong value is refused where the setting is made."""
    with pytest.raises(ConfigError, match=said):
        make()
