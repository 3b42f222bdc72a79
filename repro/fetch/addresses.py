"""Where the two data sets are: their public addresses, and what to do by hand where one does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from clamp.data import ANNOTATION_SHA256, SPLITS
from repro.fetch.published import Published

Dataset = Literal["twitter2015", "twitter2017"]
DATASETS: tuple[Dataset, ...] = ("twitter2015", "twitter2017")
FetchedField = Literal["caption_blip2", "emotion", "captions"]  # of a visual proxy
PROXY_FOLDER = "proxy_sources"
_RAW = "https://raw.githubusercontent.com"
_DRIVE = "https://drive.google.com/file/d/{}/view"
_BOTH_ARCHIVE = _DRIVE.format("1PpvvncnQkgDNeBMKVgG2zFYuRhbL873g")  # of the authors (Yu and Jiang, IJCAI 2019)
_ARCHIVES = {
    "twitter2015": _DRIVE.format("1qAWrV9IaiBadICFb7mAreXy3llao_teZ"),
    "twitter2017": _DRIVE.format("1ogfbn-XEYtk9GpUECq1-IwzINnhKGJqy"),
}

_CAPTIONS = "rf-x/MDCA/4c0a40a5fb6b44df7851ad66c7b393fe8a2ad138/data"
_BLIP2 = "JinYuanLi0012/PGIM/a13b27590742893347d09b95c9a2c137c580d38b/data/ImageCaption"
_EMOTION = "li9527yu/Third_work/1ed12664fd68eb366a57bc6a89476b3963ed369c/data/eecl_data"
PROXY_PATHS: dict[Dataset, tuple[tuple[FetchedField, str], ...]] = {
    "twitter2015": (
        ("caption_blip2", f"{_BLIP2}/BLIP2_15.txt"),
        ("emotion", f"{_EMOTION}/twitter2015/eccl_train.json"),
        ("emotion", f"{_EMOTION}/twitter2015/eccl_val.json"),
        ("emotion", f"{_EMOTION}/twitter2015/eccl_test.json"),
        ("captions", f"{_CAPTIONS}/twitter2015/captions.json"),
    ),
    "twitter2017": (
        ("caption_blip2", f"{_BLIP2}/BLIP2_17.txt"),
        ("emotion", f"{_EMOTION}/twitter2017/eccl_train.json"),
        ("emotion", f"{_EMOTION}/twitter2017/eccl_val.json"),
        ("emotion", f"{_EMOTION}/twitter2017/eccl_test.json"),
        ("captions", f"{_CAPTIONS}/twitter2017/captions.json"),
    ),
}
"""Repository, commit and path of the files of every field. Their forms and licences are in docs/data.md."""

PROXY_SHA256 = {
    f"{_CAPTIONS}/twitter2015/captions.json": "dd1fac95353b0f9281cf8f22a082178430e11c917e28553556ef2877bc5cece0",
    f"{_BLIP2}/BLIP2_15.txt": "57646c1fd7cf120a5bb6948db56757e35536eed53660f6e0129817cacee492ec",
    f"{_EMOTION}/twitter2015/eccl_train.json": "fb0610d73809b4221aae2cbc29597a3176a228dc96d45b3c65614abd18ae0c49",
    f"{_EMOTION}/twitter2015/eccl_val.json": "86c56914e646a3dac6c246c1b5bd5f0573dd6a85392567eaa799555ebfabcb10",
    f"{_EMOTION}/twitter2015/eccl_test.json": "c95772f841ff0bccab734660cb3d001d2827b38ddaabc115f10140cfc2f3d132",
    f"{_CAPTIONS}/twitter2017/captions.json": "8fe010a30172513022c8aedd7361f7fbabc8f26664c47366b4aebe0c707bccdd",
    f"{_BLIP2}/BLIP2_17.txt": "6ac8231876221740faec3e9d10b78501d678f9f1379e893bbd3c68f885241919",
    f"{_EMOTION}/twitter2017/eccl_train.json": "1b4d752e6a5ce3e9ac3114bf7822a6a5bc58e5ec3008db9085bd92d435bf234a",
    f"{_EMOTION}/twitter2017/eccl_val.json": "49a39355130d01bb2d86b5f486783ac5f0a01d92d2c7a35439f51d608d230b51",
    f"{_EMOTION}/twitter2017/eccl_test.json": "016da35505cd0c3e05f1cce3dc86fcea487099bc04956bbe9d75adfa016b83ab",
}


@dataclass(frozen=True)
class Places:
    """Addresses, with {dataset}, {split}, {image_id} and {path} to be filled in; the defaults name commits."""

    annotations: str = (
        f"{_RAW}/SilyRab/AoM/82b5ed0a9cdfd602745953b401d5122a8437103b/src/data/{{dataset}}/{{split}}.json"
    )
    images: Mapping[Dataset, str] = field(
        default_factory=lambda: {
            "twitter2015": f"{_RAW}/jinlanfu/NERmultimodal/6de7e3fbfde4f76d4ca8d35ba4bf6d12a8d61d1c"
            "/data/ner_img/{image_id}",
            "twitter2017": f"{_RAW}/CopotronicRifat/TwitterDataMABSA/7bac3a58e5d411baa86cd89b1390a063f82ffb98"
            "/twitter2017_images/{image_id}",
        }
    )
    proxies: str = f"{_RAW}/{{path}}"

    def image(self, dataset: Dataset, image_id: str) -> str:
        return self.images[dataset].format(image_id=quote(image_id, safe=""))


def annotation_files(data: Path, dataset: Dataset, places: Places) -> list[Published]:
    """The annotations of the three splits, in the place where the reader looks."""
    return [
        Published(
            places.annotations.format(dataset=dataset, split=split),
            data / dataset / f"{split}.json",
            ANNOTATION_SHA256[f"{dataset}/{split}.json"],
        )
        for split in SPLITS
    ]


def proxy_files(data: Path, dataset: Dataset, places: Places) -> list[tuple[FetchedField, Published]]:
    """What is said of the images, as published: it lies apart until it is merged, as some of it holds gold."""
    folder = data / dataset / PROXY_FOLDER
    return [
        (name, Published(places.proxies.format(path=path), folder / path.rsplit("/", 1)[1], PROXY_SHA256[path]))
        for name, path in PROXY_PATHS[dataset]
    ]


def image_folder(data: Path, dataset: Dataset) -> Path:
    """Where the images of a data set belong: what `load_twitter` looks at first, if there is such a folder."""
    inside = data / dataset / "images"
    return inside if inside.is_dir() else data / f"{dataset}_images"


def images_by_hand(data: Path, dataset: Dataset) -> str:
    """How to get the images without the mirror."""
    return (
        f"By hand: download the authors' archive in a browser, {_ARCHIVES[dataset]}\n"
        f"  (or that of both data sets, {_BOTH_ARCHIVE}), then\n"
        f"  python -m repro fetch {dataset} --archive FILE --data {data}\n"
        f"  or unpack it so that the images lie in {image_folder(data, dataset)}/. There are no checksums of images."
    )
