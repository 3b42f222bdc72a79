"""`python -m repro fetch`: what is missing of a data set, brought here and checked; what is there stays."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from clamp.data import ANNOTATION_SHA256, SPLITS
from clamp.data.annotations import read_json_records
from repro.fetch import addresses, archive, images
from repro.fetch.addresses import Dataset, Places
from repro.fetch.download import Downloader, FetchError, Rules, Unsound, Wanted

REPORT = "absent_images.json"
_MAX_ANNOTATION_BYTES = 10_000_000
_MAX_ARCHIVE_BYTES = 4 * 2**30
_ANNOTATION_SECONDS = 600.0
_ARCHIVE_SECONDS = 24 * 3600.0
_LISTED = 5


def run(
    datasets: Sequence[Dataset],
    data: Path,
    *,
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
            by_hand: list[str] = []
            try:
                with _alone(data / dataset):
                    by_hand = [addresses.annotations_by_hand(data, dataset, places)]
                    if with_images or from_archive is not None:
                        by_hand.append(addresses.images_by_hand(data, dataset))
                    _fetch_annotations(downloader, dataset, data, places)
                    del by_hand[0]
                    if by_hand:
                        absent += _fetch_images(downloader, dataset, data, places, from_archive)
            except FetchError as error:
                print(f"error: {error}", *by_hand, sep="\n", file=sys.stderr)
                return 2
            _say_what_next(dataset, data)
    return 1 if absent else 0


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second fetch of the same data set out; the kernel lets go however this one ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".fetch.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(f"{folder}: another fetch of it is under way") from None
        yield


def _check_sum(dataset: Dataset, split: str, file: Path) -> None:
    found, expected = hashlib.sha256(file.read_bytes()).hexdigest(), ANNOTATION_SHA256[f"{dataset}/{split}.json"]
    if found != expected:
        raise Unsound(f"{dataset}/{split}.json: sha256 {found[:16]}... is not {expected[:16]}..., that of the data set")


def _fetch_annotations(downloader: Downloader, dataset: Dataset, data: Path, places: Places) -> None:
    fetched = 0
    for split in SPLITS:
        target = data / dataset / f"{split}.json"

        def check(file: Path, split: str = split) -> None:
            _check_sum(dataset, split, file)

        if target.exists():
            try:
                check(target)
            except Unsound as error:
                raise FetchError(
                    f"{target}: not the published file, so it stays; move it away first ({error})"
                ) from None
            continue
        address = places.annotation(dataset, split)
        downloader.fetch(Wanted(address, target, _MAX_ANNOTATION_BYTES, _ANNOTATION_SECONDS, check))
        fetched += 1
    print(f"{dataset}: {fetched} annotation files fetched, {len(SPLITS) - fetched} were there", file=sys.stderr)


def _fetch_images(
    downloader: Downloader, dataset: Dataset, data: Path, places: Places, from_archive: str | None
) -> int:
    """How many images are not to be had."""
    records = (record for split in SPLITS for record in read_json_records(data / dataset / f"{split}.json"))
    names = list(dict.fromkeys(record.image_id for record in records))
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
    folder = addresses.image_folder(data, dataset)
    if folder.is_dir():
        print(f"{dataset} is ready: python -m repro run --profile paper --dataset {dataset} --data {data}")
    else:
        print(f"{dataset}: annotations are in {data / dataset}; --images brings the images for --profile paper")
    if not (data / dataset / "visual_proxy.json").exists():
        print(
            f"--profile offline also reads {data / dataset / 'visual_proxy.json'}, captions and faces of the images as"
            " text. There is no address to fetch it from; docs/data.md says what is in it"
        )
