"""The course of a training run, told to the tools that people watch runs with."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clamp.config import ConfigError

LOGS = ("csv", "tensorboard", "wandb")
Tell = Callable[[int, float, float], None]  # epochs done, dev F1 and the best so far, in 0..1


def check_installed(kind: str | None) -> None:
    """ConfigError where the tool is not installed; better than to find out when all data have been read."""
    if kind == "tensorboard":
        _imported("torch.utils.tensorboard", "tensorboard")
    elif kind == "wandb":
        _imported("wandb", "wandb")


@contextmanager
def training_log(kind: str | None, folder: Path, settings: dict[str, Any]) -> Iterator[Tell]:
    """A function to tell each epoch to, for as long as the run lasts. ConfigError where the tool is not installed."""
    if kind is None:
        yield lambda epoch, f1, best: None
    elif kind == "csv":
        yield _csv_row(folder / "log.csv")
    elif kind == "tensorboard":
        writer = _imported("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder / "log"))
        try:
            yield lambda epoch, f1, best: _scalars(writer, epoch, f1, best)
        finally:
            writer.close()
    else:
        run = _imported("wandb", "wandb").init(project="clamp", dir=str(folder), config=settings)
        try:
            yield lambda epoch, f1, best: run.log({"dev_f1": f1, "best_dev_f1": best}, step=epoch)
        finally:
            run.finish()


def _csv_row(file: Path) -> Tell:
    def tell(epoch: int, f1: float, best: float) -> None:
        is_new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as stream:  # a run that goes on adds to it
            rows = csv.writer(stream)
            if is_new:
                rows.writerow(["epoch", "dev_f1", "best_dev_f1"])
            rows.writerow([epoch, f1, best])

    return tell


def _scalars(writer: Any, epoch: int, f1: float, best: float) -> None:
    writer.add_scalar("dev_f1", f1, epoch)
    writer.add_scalar("best_dev_f1", best, epoch)


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"--log {package}: not installed here; run: pip install {package}") from None
