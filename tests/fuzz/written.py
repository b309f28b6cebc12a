"""What runs themselves write: the record of a run, its plan, its parts, the journal of renames."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from typing import TYPE_CHECKING

from tests.fuzz.mutate import json_text, raw, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

STOPPED_AFTER = 5


def _template(folder: Path) -> Path:
    """A folder with nine inputs, an output that is a folder and one that is a file, both unfinished."""
    from tests.outputs import nine_inputs, run

    template = folder / "template"
    if not template.exists():
        template.mkdir(parents=True)
        photos = nine_inputs(template / "photos")
        for out in (template / "p.parquet", template / "folder"):
            run(out, photos, stop_after=STOPPED_AFTER, commit_seconds=0)
    return template


def files_of(name: str) -> Callable[[Path], Iterator[bytes]]:
    def seeds(folder: Path) -> Iterator[bytes]:
        for path in sorted(_template(folder).rglob(name)):
            yield path.read_bytes()

    return seeds


def journals(folder: Path) -> Iterator[bytes]:
    yield json.dumps([["a.parquet", "b.parquet"], ["/etc/hostname.copy", "/tmp/x"]]).encode()


def record(rng: Random, data: bytes) -> bytes:
    return json_text(rng, data)


def part(rng: Random, data: bytes) -> bytes:
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return raw(rng, data, first=footer) if rng.random() < 0.6 else raw(rng, data)


def judge_file(name: str) -> Callable[[bytes, Path], str]:
    """Judges an output in which one file is another: `status`, the readers and a run that goes on."""

    def judge(data: bytes, folder: Path) -> str:
        from motivnet_cli.errors import MotivNetError
        from motivnet_cli.output.read import read_faces, read_inputs
        from motivnet_cli.output.status import output_status

        labels = []
        for out_name in ("p.parquet", "folder"):
            here = folder / "here"
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(_template(folder.parent), here)
            out = here / out_name
            control = here / "p.parquet.work" if out_name == "p.parquet" else out / ".motivnet"
            found = sorted((out.parent / "p.parquet.work" if out_name == "p.parquet" else out).rglob(name))
            (found[0] if found else control / name).write_bytes(data)
            before = _listing(here / "photos")
            for step in (output_status, read_faces, read_inputs, functools.partial(_run, photos=here / "photos")):
                try:
                    step(out)
                    labels.append("ok")
                except MotivNetError as error:  # noqa: PERF203
                    labels.append(told(error))
                except UnknownInputError:
                    labels.append("ok")
            assert _listing(here / "photos") == before, "an input was changed"
        return labels[3]

    return judge


class UnknownInputError(Exception):
    """The plan names an input of which the runs of `tests.outputs` know nothing."""


def _run(out: Path, photos: Path) -> None:
    from tests.outputs import run

    try:
        run(out, photos)
    except ValueError as error:
        if str(error).startswith("invalid literal for int"):
            raise UnknownInputError from error
        raise


def _listing(folder: Path) -> list[tuple[str, int]]:
    with contextlib.suppress(FileNotFoundError):
        return sorted((path.name, path.stat().st_size) for path in folder.iterdir())
    return []
