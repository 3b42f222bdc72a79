"""Twitter-2015 and Twitter-2017: annotations, images and visual proxies of a folder, as tweets.

A data set's folder holds train, dev (or valid) and test annotations as .json, .txt or .conll (CoNLL, or four lines a
target) or .tsv (a row a target), and visual_proxy.json; its images lie in it, in images/, or beside it, in
<folder>_images/ or images/.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clamp.config import ProxyField
from clamp.data.annotations import SUFFIXES, AnnotatedTweet, read_annotations
from clamp.data.files import file_sha256
from clamp.data.images import ImageAbsentError, ImageCounts, find_image, read_picture
from clamp.data.labels import Labels
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

_NAMES = {"train": ("train",), "dev": ("dev", "valid", "val", "validation"), "test": ("test",)}  # of a split's file
_PROXY_NAME = "visual_proxy.json"
_log = logging.getLogger(__name__)


def annotation_file(root: Path, split: str) -> Path:
    """The file of a split, under the names and in the forms that are in use; DataError where there is none."""
    files = [root / f"{name}{suffix}" for name in _NAMES[split] for suffix in SUFFIXES]
    for file in files:
        if file.is_file():
            return file
    raise DataError(root, None, f"no annotations: none of {', '.join(file.name for file in files)} is there")


def has_split(root: Path, split: str) -> bool:
    """Whether a split has a file."""
    try:
        annotation_file(root, split)
    except DataError:
        return False
    return True


def annotated_tweets(root: Path, split: str, labels: Labels | None = None) -> list[AnnotatedTweet]:
    """A split as its file has it."""
    file = annotation_file(root, split)
    records = read_annotations(file, labels)
    if not records:
        raise DataError(file, None, "no tweets")
    return records


def _image_folders(root: Path) -> tuple[Path, ...]:
    return root / "images", root.parent / f"{root.name}_images", root.parent / "images"


def image_folder(root: Path) -> Path | None:
    """Where a data set's images lie, in it or beside it; None where there is no such folder."""
    return next((folder for folder in _image_folders(root) if folder.is_dir()), None)


def _needed_image_folder(root: Path, images: Path | None) -> Path:
    folders = [images] if images else _image_folders(root)
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DataError(root, None, f"no images: no folder {' or '.join(map(str, folders))}")


def _usable_images(names: Sequence[str], folder: Path) -> tuple[dict[str, Path], ImageCounts]:
    """The files that decode, by name, and what became of all."""
    usable, counts = {}, ImageCounts()
    for name in names:
        file = find_image(folder, name)
        try:
            picture = read_picture(file)
        except DataError as error:
            counts.fault(error)
        else:
            usable[name] = file
            counts.read += 1
            counts.truncated += picture.is_truncated
    return usable, counts


@dataclass(frozen=True)
class LoadedSplit:
    """The tweets of a split, what became of its images or proxies, and how many aspects its labels left out."""

    tweets: list[Tweet]
    images: ImageCounts
    dropped: int


def load_split(
    root: Path,
    split: str,
    images: Path | None = None,
    visual: Visual = "image",
    proxy_fields: Sequence[ProxyField] = ("caption", "faces"),
    labels: Labels | None = None,
) -> LoadedSplit:
    """`load_twitter`, and what there is to say of it."""
    root = Path(root)
    records = annotated_tweets(root, split, labels)
    names = list(dict.fromkeys(record.image_id for record in records))
    paths: dict[str, Path] = {}
    proxies: dict[str, tuple[str, ...]] = {}
    counts = ImageCounts()
    if visual == "image":
        paths, counts = _usable_images(names, _needed_image_folder(root, images))
    elif visual == "proxy":
        proxies = read_proxies(root / _PROXY_NAME, proxy_fields)
        counts.read = sum(name in proxies for name in names)
        for name in names:
            if name not in proxies:
                counts.fault(ImageAbsentError(name, None, f"nothing in {_PROXY_NAME}"))
    else:
        counts.unused = len(names)
    tweets = [
        Tweet(
            id=f"{split}-{number:05d}:{record.image_id}",
            words=record.words,
            aspects=record.aspects,
            image=paths.get(record.image_id),
            proxy=proxies.get(record.image_id),
        )
        for number, record in enumerate(records)
    ]
    return LoadedSplit(tweets, counts, sum(record.dropped for record in records))


def load_twitter(
    root: Path,
    split: str,
    images: Path | None = None,
    visual: Visual = "image",
    proxy_fields: Sequence[ProxyField] = ("caption", "faces"),
    labels: Labels | None = None,
) -> list[Tweet]:
    """The tweets of one split in the order of its file, with what `visual` asks for.

    "image": the path of each image that decodes, sought in `images`, by default in or beside `root`; "proxy": the
    sentences of `proxy_fields` of visual_proxy.json. A tweet whose image or proxy is missing or broken has none, and
    one warning says how many those are. DataError where annotations, the image folder or the proxy file are missing or
    unsound.
    """
    loaded = load_split(root, split, images, visual, proxy_fields, labels)
    warn_of_images(Path(root), split, loaded)
    return loaded.tweets


def warn_of_images(root: Path, split: str, loaded: LoadedSplit) -> None:
    """One warning where images or proxies are missing."""
    counts = loaded.images
    if missing := counts.absent + counts.unread:
        faults = "; ".join(counts.why) + ("; ..." if missing > len(counts.why) else "")
        total = counts.read + missing
        _log.warning("%s %s: %d of %d images count as absent: %s", root.name, split, missing, total, faults)


def twitter_manifest(
    root: Path,
    images: Path | None = None,
    visual: Visual = "image",
    splits: Sequence[str] = SPLITS,
    labels: Labels | None = None,
) -> dict[str, str]:
    """Name -> sha256 of every file that `load_twitter` reads over the splits.

    The images count as one entry, named after their folder: the digest of their names and digests, absent ones too.
    """
    root = Path(root)
    files = [annotation_file(root, split) for split in splits]
    if visual == "proxy":
        files.append(root / _PROXY_NAME)
    manifest = {f"{root.name}/{file.name}": file_sha256(file) for file in files}
    if visual == "image":
        folder = _needed_image_folder(root, images)
        names = sorted({tweet.image_id for split in splits for tweet in annotated_tweets(root, split, labels)})
        lines = [f"{name} {_sha256_of_image(folder, name)}\n" for name in names]
        manifest[folder.name] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return manifest


def _sha256_of_image(folder: Path, name: str) -> str | None:
    file = find_image(folder, name)
    return file_sha256(file) if file.is_file() else None
