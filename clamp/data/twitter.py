"""Twitter-2015 and Twitter-2017: annotations, images and visual proxies of a folder, as tweets.

A data set's folder holds train, dev and test annotations as .json, .txt (CoNLL) or .tsv (a row per target), and
visual_proxy.json; its images lie in it, in images/, or beside it, in <folder>_images/ or images/.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from clamp.config import ProxyField
from clamp.data.annotations import AnnotatedTweet, read_conll_records, read_json_records, read_target_records
from clamp.data.files import file_sha256
from clamp.data.images import read_image
from clamp.data.proxy import read_proxies
from clamp.data.schema import DataError, Tweet

SPLITS = ("train", "dev", "test")
Visual = Literal["image", "proxy", "none"]

ANNOTATION_SHA256 = {
    "twitter2015/train.json": "a362e28e30b7285634fd2e513c580c67954127fb0f857e397f92f5245aadde9e",
    "twitter2015/dev.json": "95f52a22e6ebcdec6fbda791d924763e3a4f5540c489a241bb200489fd092065",
    "twitter2015/test.json": "8ce3ac8586293e4487c39cc0a3b859a16eeab353b00a4ff3c98fdcaef035ba1c",
    "twitter2017/train.json": "b80b3667b7db2614398f5c278086a572c891369106ca3fd8647d0d85aeb2240c",
    "twitter2017/dev.json": "373c3409191fefb6a93d73cc0ada3e15874e972f04983f9d8707b7ac2550d66d",
    "twitter2017/test.json": "c0cbf7efe1b1aae4c77385d7e9c3be62c088dbc9cb60f14681334b82de63835e",
}
"""Of the JSON annotations that peers train on (SilyRab/AoM, commit 82b5ed0a9cdfd602745953b401d5122a8437103b)."""

_READERS = {".json": read_json_records, ".txt": read_conll_records, ".tsv": read_target_records}
_PROXY_NAME = "visual_proxy.json"
_NAMED_IN_REPORT = 3
_log = logging.getLogger(__name__)


def _annotation_file(root: Path, split: str) -> Path:
    files = [root / f"{split}{suffix}" for suffix in _READERS]
    for file in files:
        if file.is_file():
            return file
    raise DataError(root, None, f"no annotations: none of {', '.join(file.name for file in files)} is there")


def _records(root: Path, split: str) -> list[AnnotatedTweet]:
    file = _annotation_file(root, split)
    records = _READERS[file.suffix](file)
    if not records:
        raise DataError(file, None, "no tweets")
    return records


def _image_folder(root: Path, images: Path | None) -> Path:
    beside = (root / "images", root.parent / f"{root.name}_images", root.parent / "images")
    folders = [images] if images else beside
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DataError(root, None, f"no images: no folder {' or '.join(map(str, folders))}")


def _usable_images(names: Sequence[str], folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The files that decode in full, by name, and why each of the others does not."""
    usable, faults = {}, []
    for name in names:
        try:
            read_image(folder / name)
        except DataError as error:
            faults.append(str(error))
        else:
            usable[name] = folder / name
    return usable, faults


def load_twitter(
    root: Path,
    split: str,
    images: Path | None = None,
    visual: Visual = "image",
    proxy_fields: Sequence[ProxyField] = ("caption", "faces"),
) -> list[Tweet]:
    """The tweets of one split in the order of its file, with what `visual` asks for.

    "image": the path of each image that decodes, sought in `images`, by default in or beside `root`; "proxy": the
    sentences of `proxy_fields` of visual_proxy.json. A tweet whose image or proxy is missing or broken has none, and
    one warning says how many those are. DataError where annotations, the image folder or the proxy file are missing or
    unsound.
    """
    root = Path(root)
    records = _records(root, split)
    names = list(dict.fromkeys(record.image_id for record in records))
    paths: dict[str, Path] = {}
    proxies: dict[str, tuple[str, ...]] = {}
    faults: list[str] = []
    if visual == "image":
        paths, faults = _usable_images(names, _image_folder(root, images))
    elif visual == "proxy":
        proxies = read_proxies(root / _PROXY_NAME, proxy_fields)
        faults = [f"{name}: nothing in {_PROXY_NAME}" for name in names if name not in proxies]
    if faults:
        first = "; ".join(faults[:_NAMED_IN_REPORT])
        more = "; ..." if len(faults) > _NAMED_IN_REPORT else ""
        _log.warning(
            "%s %s: %d of %d images count as absent: %s%s", root.name, split, len(faults), len(names), first, more
        )
    return [
        Tweet(
            id=f"{split}-{number:05d}:{record.image_id}",
            words=record.words,
            aspects=record.aspects,
            image=paths.get(record.image_id),
            proxy=proxies.get(record.image_id),
        )
        for number, record in enumerate(records)
    ]


def twitter_manifest(root: Path, images: Path | None = None, visual: Visual = "image") -> dict[str, str]:
    """Name -> sha256 of every file that `load_twitter` reads over the three splits.

    The images count as one entry, named after their folder: the digest of their names and digests, absent ones too.
    """
    root = Path(root)
    files = [_annotation_file(root, split) for split in SPLITS]
    if visual == "proxy":
        files.append(root / _PROXY_NAME)
    manifest = {f"{root.name}/{file.name}": file_sha256(file) for file in files}
    if visual == "image":
        folder = _image_folder(root, images)
        names = sorted({record.image_id for split in SPLITS for record in _records(root, split)})
        lines = [f"{name} {file_sha256(folder / name) if (folder / name).is_file() else None}\n" for name in names]
        manifest[folder.name] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return manifest
