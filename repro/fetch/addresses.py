"""Where the two data sets are: their public addresses, and what to do by hand where one does not answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from clamp.data import ANNOTATION_SHA256, SPLITS

Dataset = Literal["twitter2015", "twitter2017"]
DATASETS: tuple[Dataset, ...] = ("twitter2015", "twitter2017")

_DRIVE = "https://drive.google.com/file/d/{}/view"
_BOTH_ARCHIVE = _DRIVE.format("1PpvvncnQkgDNeBMKVgG2zFYuRhbL873g")  # of the authors (Yu and Jiang, IJCAI 2019)
_ARCHIVES = {
    "twitter2015": _DRIVE.format("1qAWrV9IaiBadICFb7mAreXy3llao_teZ"),
    "twitter2017": _DRIVE.format("1ogfbn-XEYtk9GpUECq1-IwzINnhKGJqy"),
}


@dataclass(frozen=True)
class Places:
    """Addresses, with {dataset}, {split} and {image_id} to be filled in; the defaults name commits."""

    annotations: str = (
        "https://raw.githubusercontent.com/SilyRab/AoM/82b5ed0a9cdfd602745953b401d5122a8437103b"
        "/src/data/{dataset}/{split}.json"
    )
    images: str = (
        "https://raw.githubusercontent.com/CopotronicRifat/TwitterDataMABSA/7bac3a58e5d411baa86cd89b1390a063f82ffb98"
        "/{dataset}_images/{image_id}"
    )

    def annotation(self, dataset: Dataset, split: str) -> str:
        return self.annotations.format(dataset=dataset, split=split)

    def image(self, dataset: Dataset, image_id: str) -> str:
        return self.images.format(dataset=dataset, image_id=quote(image_id, safe=""))


def image_folder(data: Path, dataset: Dataset) -> Path:
    """Where the images of a data set belong: what `load_twitter` looks at first, if there is such a folder."""
    inside = data / dataset / "images"
    return inside if inside.is_dir() else data / f"{dataset}_images"


def annotations_by_hand(data: Path, dataset: Dataset, places: Places) -> str:
    """How to get the annotations without this program, each file's checksum included."""
    lines = ["By hand: save", *(
        f"  {places.annotation(dataset, split)}\n"
        f"    as {data / dataset / split}.json (sha256 {ANNOTATION_SHA256[f'{dataset}/{split}.json']})"
        for split in SPLITS
    ), "and give the same command again."]  # fmt: skip
    return "\n".join(lines)


def images_by_hand(data: Path, dataset: Dataset) -> str:
    """How to get the images without the mirror."""
    return (
        f"By hand: download the authors' archive in a browser, {_ARCHIVES[dataset]}\n"
        f"  (or that of both data sets, {_BOTH_ARCHIVE}), then\n"
        f"  python -m repro fetch {dataset} --archive FILE --data {data}\n"
        f"  or unpack it so that the images lie in {image_folder(data, dataset)}/. There are no checksums of images."
    )
