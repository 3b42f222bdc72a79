"""The images of a data set, one by one from a mirror, and the list of those that are not to be had."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from clamp.data import DataError, read_image
from clamp.system.files import written
from repro.fetch.archive import MAX_MEMBER_BYTES
from repro.fetch.download import Downloader, FetchError, Missing, Unanswered, Unsound, Wanted

CONNECTIONS = 4
_MAX_SECONDS = 300.0
_SILENT_IN_A_ROW = CONNECTIONS  # then the host is taken to be out of reach
_MISSING_AT_FIRST = 20  # of the first images: then the mirror is taken not to have the data set


def check_image(file: Path) -> None:
    """Raises Unsound unless the file decodes as `load_twitter` would have it."""
    try:
        read_image(file)
    except DataError as error:
        raise Unsound(f"broken: {str(error).removeprefix(f'{file}: ')}") from None


def unusable(names: Sequence[str], folder: Path) -> list[str]:
    """Those of which `folder` has no file that decodes: they are to be fetched."""

    def is_usable(name: str) -> bool:
        with contextlib.suppress(Unsound):
            check_image(folder / name)
            return True
        return False

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        checked = tqdm(pool.map(is_usable, names), total=len(names), desc="checking", leave=False, disable=None)
        return [name for name, usable in zip(names, checked, strict=True) if not usable]


def from_mirror(
    downloader: Downloader,
    names: Sequence[str],
    folder: Path,
    address: Callable[[str], str],
    on_image: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Fetch the named images into `folder` and return why each of the others is not there, by name.

    Raises FetchError when the host does not answer several times in a row, or has none of the first images.
    """

    def fetch(name: str) -> None:
        downloader.fetch(Wanted(address(name), folder / name, MAX_MEMBER_BYTES, _MAX_SECONDS, check_image))

    faults: dict[str, str] = {}
    silent, has_some = 0, folder.is_dir() and any(folder.glob("[!.]*"))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures: dict[Future[None], str] = {pool.submit(fetch, name): name for name in names}
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                    silent, has_some = 0, True
                except FetchError as error:
                    silent = silent + 1 if isinstance(error, Unanswered) else 0
                    faults[futures[future]] = str(error)
                    if silent >= _SILENT_IN_A_ROW:
                        raise
                    if isinstance(error, Missing) and not has_some and len(faults) >= _MISSING_AT_FIRST:
                        raise FetchError(f"the mirror has none of the first {len(faults)} images: {error}") from None
                on_image()
        except BaseException:
            downloader.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return faults


def write_report(file: Path, wanted: int, faults: dict[str, str]) -> None:
    """The images that count as absent, and why, as JSON."""
    report = {"images": wanted, "present": wanted - len(faults), "absent": dict(sorted(faults.items()))}
    with written(file) as stream:
        stream.write((json.dumps(report, indent=1) + "\n").encode())
