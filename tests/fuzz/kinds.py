"""The kinds of files and answers that are fuzzed: how sound ones are made, how they are damaged, who judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fuzz import archives, checkpoints, pictures, servers, tables, videos, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    seeds: Callable[[Path], Iterator[bytes]]
    """Makes sound files, in an empty folder if it needs one."""
    mutate: Callable[[Random, bytes], bytes]
    judge: Callable[[bytes, Path], str]
    """What the product makes of a mutant: `ok`, `partial`, or the type of a documented error; anything else raises."""
    is_apart: bool = False
    """The product decodes it in a process of its own: a crash, a hang or a want of memory there costs one input."""
    weight: float = 4
    """Its share of the cases."""
    resident_bytes: int = 700 << 20
    """That a case may add to what is resident."""


def _without_folder(seeds: Callable[[], Iterator[bytes]]) -> Callable[[Path], Iterator[bytes]]:
    return lambda _: seeds()


def _picture(
    name: str,
    seeds: Callable[[], Iterator[bytes]],
    mutate: Callable[[Random, bytes], bytes],
    *,
    is_apart: bool = False,
    weight: float = 4,
) -> Kind:
    return Kind(name, _without_folder(seeds), mutate, pictures.judge, is_apart, weight)


_SAVED = pictures.saved
_PICTURES = (
    _picture(
        "jpeg", _SAVED("JPEG", {"exif": True}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}), pictures.jpeg
    ),
    _picture(
        "png",
        _SAVED("PNG", {"exif": True}, {"mode": "P"}, {"mode": "RGBA"}, {"mode": "1"}, {"mode": "I;16"}),
        pictures.png,
    ),
    _picture("gif", _SAVED("GIF", {"mode": "P"}, {"mode": "P", "frames": 2}), pictures.gif),
    _picture("webp", _SAVED("WEBP", {"exif": True}, {"lossless": True, "mode": "RGBA"}, {"frames": 2}), pictures.webp),
    _picture("bmp", pictures.bmps, pictures.bmp, is_apart=True),
    _picture(
        "tiff",
        _SAVED(
            "TIFF",
            *({"compression": name} for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
            *({"mode": "1", "compression": "group4"}, {"mode": "I;16"}, {"mode": "P"}, {"big_tiff": True}),
        ),
        pictures.tiff,
        is_apart=True,
    ),
    _picture("ppm", pictures.plain_ppms, pictures.ppm, is_apart=True, weight=2),
    _picture("heic", pictures.heics, pictures.heif, is_apart=True),
    _picture("avif", _SAVED("AVIF", {"exif": True}, {"mode": "RGBA"}, {"frames": 2}), pictures.heif, is_apart=True),
    _picture("jpeg2000", _SAVED("JPEG2000", {}, {"mode": "L", "no_jp2": True}), pictures.jpeg_2000, is_apart=True),
    Kind(
        "png-checksum",
        _without_folder(_SAVED("PNG", {}, {"mode": "L"})),
        pictures.png_data,
        pictures.judge_checksum,
        weight=1,
    ),
)
_VIDEOS = (
    Kind("mp4", videos.clips(".mp4", "libx264", "libx265", "mpeg4"), videos.mp4, videos.judge, is_apart=True, weight=3),
    Kind("mkv", videos.clips(".mkv", "libx264", "libvpx-vp9"), videos.mkv, videos.judge, is_apart=True, weight=2),
    Kind("avi", videos.clips(".avi", "mpeg4", "libx264"), videos.avi, videos.judge, is_apart=True, weight=2),
    Kind("ts", videos.clips(".ts", "libx264", "mpeg2video"), videos.ts, videos.judge, is_apart=True, weight=2),
)
_ARCHIVES = (
    Kind("tar", _without_folder(archives.tars), archives.tar, archives.judge),
    Kind(
        "compressed tar", _without_folder(archives.compressed_tars), archives.compressed_tar, archives.judge, weight=3
    ),
    Kind("zip", _without_folder(archives.zips), archives.zip_archive, archives.judge),
    Kind(
        "archive checksum", _without_folder(archives.sealed), archives.checksummed, archives.judge_checksums, weight=2
    ),
)
_TABLES = (
    Kind("csv", _without_folder(tables.csvs), tables.text, tables.judge_csv),
    Kind("json lines", _without_folder(tables.json_lines), tables.json_rows, tables.judge_json_lines),
    Kind("parquet", _without_folder(tables.parquets), tables.parquet, tables.judge_parquet, resident_bytes=5 << 29),
    Kind("list", _without_folder(tables.lists), tables.text, tables.judge_list, weight=2),
)
_CHECKPOINTS = (
    Kind(
        "safetensors",
        _without_folder(checkpoints.safetensors),
        checkpoints.safetensors_file,
        checkpoints.judge_safetensors,
    ),
    Kind("pth", _without_folder(checkpoints.pths), checkpoints.pth, checkpoints.judge_pth),
)
_WRITTEN = (
    Kind("run.json", written.files_of("run.json"), written.record, written.judge_file("run.json"), weight=0.5),
    Kind("plan", written.files_of("plan.pq"), written.part, written.judge_file("plan.pq"), weight=0.5),
    Kind("part", written.files_of("part-*.parquet"), written.part, written.judge_file("part-*.parquet"), weight=0.5),
    Kind("journal", written.journals, written.record, written.judge_file("moves.json"), weight=0.5),
)
_SERVERS = (
    Kind("http", _without_folder(servers.answers), servers.answer, servers.judge_http, weight=1),
    Kind("bucket", _without_folder(servers.lists_of_keys), servers.keys, servers.judge_bucket, weight=1),
)
KINDS = {kind.name: kind for kind in (*_PICTURES, *_VIDEOS, *_ARCHIVES, *_TABLES, *_CHECKPOINTS, *_WRITTEN, *_SERVERS)}
