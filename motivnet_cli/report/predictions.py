"""One page about a run to show others: who is seen with which emotions, timelines, figures, galleries of faces.

The figures of people are those of `motivnet summary`. Rows are streamed: what is kept of them are counts, a sample for
the map, and the few faces that are shown. The page loads nothing, and every chart has its numbers as text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli import __version__
from motivnet_cli.durable import durably
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.filters import NO_FILTERS
from motivnet_cli.export.local_files import LocalFiles
from motivnet_cli.export.source import Source
from motivnet_cli.records import in_column_order
from motivnet_cli.remote.urls import local_path
from motivnet_cli.report.face_pictures import MAX_VIDEO_SECONDS, add_pictures
from motivnet_cli.report.looks import looks_of
from motivnet_cli.report.pages import PAGES
from motivnet_cli.report.people import WHERE, people_in
from motivnet_cli.report.run_rows import MANY_FACES, count_inputs, gather, map_of
from motivnet_cli.report.timelines import timelines

if TYPE_CHECKING:
    from motivnet_cli.export.filters import Filters
    from motivnet_cli.report.people import By, People
    from motivnet_cli.report.timelines import Timeline

MAX_GALLERIES = 12
"""Emotions whose faces are shown: those that most faces have."""


def write_page(
    path: str,
    out: str,
    *,
    images: bool = True,
    images_from: str | None = None,
    filters: Filters = NO_FILTERS,
    overwrite: bool = False,
) -> Path:
    """Write the page of an output of `annotate`.

    Args:
        path: What `Source` takes.
        out: The page; it appears whole or not at all.
        images: Whether small copies of the local pictures and videos that the run read are in it.
        images_from: The folder to which they have moved (see `LocalFiles`).
        filters: Of the emotions in videos, for the figures of people and the timelines.

    Raises:
        ConfigError: It is no output with emotions, its faces are not in the order in which `annotate` writes them,
            `images_from` is no folder, or `check_destination` refuses `out`.
    """
    path, out = local_path(path), local_path(out)
    final = Path(out)
    check_destination(final, [path], overwrite=overwrite)
    source = Source(path)
    check_destination(final, source.files_named, overwrite=overwrite)
    if final.suffix.lower() not in (".html", ".htm"):  # it may be a picture that the run read
        raise ConfigError(f"the report is a page: give --out a name ending in .html, got {out!r}")
    if not {"emotion", "confidence", "input"} <= set(source.schema.names):
        raise ConfigError(
            f"{path!r} names no emotions, and the page is about them: motivnet evaluate and compare read it"
        )
    files = LocalFiles(source, images_from)
    people = _people(path, source, filters)
    lines, num_videos = _timelines(path, source, filters)
    rows = gather(source, people, lines)
    all_galleries = rows.galleries(source.classes)
    galleries = all_galleries[:MAX_GALLERIES]
    absent = ""
    if images:
        absent = add_pictures(source, files, [*rows.portraits.values(), *rows.stills(), *rows.in_galleries(galleries)])
    classes = in_column_order(source.classes)
    values = {
        "tool": f"motivnet {__version__}",
        "name": Path(path).name,
        "record": source.record,
        "filters": filters,
        "classes": classes,
        "looks": looks_of(classes),
        "num_faces": source.num_rows,
        "rows": rows,
        "inputs": count_inputs(source),
        "people": people,
        "timelines": lines,
        "num_videos": num_videos,
        "map": map_of(rows, source.classes),
        "galleries": galleries,
        "num_emotions": len(all_galleries),
        "many_faces": MANY_FACES,
        "images": images,
        "absent": absent,
        "still_seconds": MAX_VIDEO_SECONDS,
    }
    html = PAGES.get_template("predictions.html.j2").render(values)
    with durably(final) as temporary:
        temporary.write_bytes(html.encode("utf-8", "backslashreplace"))
    return final


def _people(path: str, source: Source, filters: Filters) -> list[People]:
    """Videos before photographs."""
    has_frames = "frame" in source.schema.names
    found = [people_in(path, "image", "folder", filters, has_frames=has_frames)]
    if has_frames:
        by: By = "track" if "track" in source.schema.names else "input"
        found.insert(0, people_in(path, "video", by, filters, has_frames=True))
    return [each for each in found if each is not None]


def _timelines(path: str, source: Source, filters: Filters) -> tuple[list[Timeline], int]:
    if not {"frame", "time_s"} <= set(source.schema.names):
        return [], 0
    return timelines(Source(path, where=f"emotion IS NOT NULL AND {WHERE['video']}", embeddings=False), filters)
