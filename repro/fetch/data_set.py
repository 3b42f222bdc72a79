"""`python -m repro fetch`: what is missing of a data set, brought here and checked; what is there stays."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from clamp.data import SPLITS
from clamp.data.annotations import read_json_records
from clamp.data.own_data import PROXIES as PROXY_NAME
from clamp.system.files import locked
from repro.fetch import addresses, archive, images, proxies
from repro.fetch.addresses import Dataset, FetchedField, Places
from repro.fetch.download import Downloader, FetchError, Rules, Wanted
from repro.fetch.published import Published, by_hand, fetch_missing

REPORT = "absent_images.json"
_MAX_ARCHIVE_BYTES = 4 * 2**30
_ARCHIVE_SECONDS = 24 * 3600.0
_LISTED = 5


def run(
    datasets: Sequence[Dataset],
    data: Path,
    *,
    with_proxies: bool = False,
    with_images: bool = False,
    from_archive: str | None = None,
    places: Places = Places(),  # noqa: B008 (frozen)
    rules: Rules = Rules(),  # noqa: B008
) -> int:
    """Fetch what is missing and return the exit code: 0 all is there, 1 but some images, 2 it could not be done.

    `from_archive` is a file, or an address, of an archive to take the images from in place of the mirror.
    """
    absent = 0
    with Downloader(rules) as downloader:
        for dataset in dict.fromkeys(datasets):
            annotations = addresses.annotation_files(data, dataset, places)
            said = addresses.proxy_files(data, dataset, places)
            to_do: list[str] = []
            try:
                with _alone(data / dataset):
                    to_do.append(by_hand(annotations))
                    if with_proxies:
                        to_do.append(by_hand([file for _, file in said]))
                    if with_images or from_archive is not None:
                        to_do.append(addresses.images_by_hand(data, dataset))
                    _fetch_annotations(downloader, dataset, annotations)
                    del to_do[0]
                    if with_proxies:
                        _fetch_proxies(downloader, dataset, data, said)
                        del to_do[0]
                    if to_do:
                        absent += _fetch_images(downloader, dataset, data, places, from_archive)
            except FetchError as error:
                print(f"error: {error}", *to_do, sep="\n", file=sys.stderr)
                return 2
            _say_what_next(dataset, data)
    return 1 if absent else 0


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second fetch of the same data set out."""
    try:
        with locked(folder, wait=False):
            yield
    except BlockingIOError:
        raise FetchError(f"{folder}: another fetch of it is under way") from None


def _image_names(dataset: Dataset, data: Path) -> list[str]:
    records = (record for split in SPLITS for record in read_json_records(data / dataset / f"{split}.json"))
    return list(dict.fromkeys(record.image_id for record in records))


def _fetch_annotations(downloader: Downloader, dataset: Dataset, files: Sequence[Published]) -> None:
    fetched = fetch_missing(downloader, files)
    print(f"{dataset}: {fetched} annotation files fetched, {len(files) - fetched} were there", file=sys.stderr)


def _fetch_proxies(
    downloader: Downloader, dataset: Dataset, data: Path, files: Sequence[tuple[FetchedField, Published]]
) -> None:
    """Merge what is said of the images into visual_proxy.json, unless all of it is there."""
    names, target = _image_names(dataset, data), data / dataset / PROXY_NAME
    fetched = 0
    if proxies.lacking(target, names):
        fetched = fetch_missing(downloader, [file for _, file in files])
        proxies.merge([(name, file.target) for name, file in files], target, names)
    shutil.rmtree(data / dataset / addresses.PROXY_FOLDER, ignore_errors=True)
    said = ", ".join(proxies.FIELDS)
    print(f"{dataset}: {fetched} proxy files fetched; {target} holds {said} of {len(names)} images", file=sys.stderr)


def _fetch_images(
    downloader: Downloader, dataset: Dataset, data: Path, places: Places, from_archive: str | None
) -> int:
    """How many images are not to be had."""
    names = _image_names(dataset, data)
    folder = addresses.image_folder(data, dataset)
    missing = images.unusable(names, folder)
    packed = None
    if from_archive is not None and missing:
        packed = _archive_file(downloader, from_archive, data)
    with tqdm(
        total=len(names), initial=len(names) - len(missing), desc=folder.name, unit=" images", disable=None
    ) as bar:
        if packed is not None:
            faults = archive.take_images(packed, missing, folder, f"{dataset}_images", images.check_image, bar.update)
        else:
            faults = images.from_mirror(
                downloader, missing, folder, lambda name: places.image(dataset, name), bar.update
            )
    if packed is not None and len(faults) == len(names):
        raise FetchError(f"{packed}: holds none of the {len(names)} images of {dataset}")
    report = data / dataset / REPORT
    images.write_report(report, len(names), faults)
    print(f"{dataset}: {len(names) - len(faults)} of {len(names)} images are in {folder}", file=sys.stderr)
    for name, reason in list(faults.items())[:_LISTED]:
        print(f"  absent: {name}: {reason}", file=sys.stderr)
    if faults:
        print(
            f"{len(faults)} of {len(names)} images count as absent: training goes on without them. {report} lists them;"
            " give the same command again to try them once more, or take them from the authors' archive (--archive)",
            file=sys.stderr,
        )
    return len(faults)


def _archive_file(downloader: Downloader, named: str, data: Path) -> Path:
    """The archive as a file; one that is named by an address is kept in data/archives/."""
    if "://" not in named:
        return Path(named)
    target = data / "archives" / hashlib.sha256(named.encode()).hexdigest()[:16]
    if not target.exists():
        with _alone(target.parent), tqdm(desc="archive", unit="B", unit_scale=True, disable=None) as bar:
            wanted = Wanted(named, target, _MAX_ARCHIVE_BYTES, _ARCHIVE_SECONDS, lambda _: None)
            downloader.fetch(wanted, bar.update)
    print(f"the archive is kept as {target}; delete it when its images are there", file=sys.stderr)
    return target


def _say_what_next(dataset: Dataset, data: Path) -> None:
    command = f"python -m repro run --profile {{}} --dataset {dataset} --data {data}"
    if addresses.image_folder(data, dataset).is_dir():
        print(f"{dataset} is ready: {command.format('paper')}")
    else:
        print(f"{dataset}: annotations are in {data / dataset}; --images brings the images for --profile paper")
    if (data / dataset / PROXY_NAME).exists():
        print(f"{dataset} is ready: {command.format('offline')}")
    else:
        print(f"{dataset}: --proxies brings {PROXY_NAME}, what tools said of the images, for --profile offline")
