"""A training run on annotated tweets of one's own: its config, from what the data and the encoders are, and its files.

A run's folder holds run.json (what is trained, written first), what training writes, and result.json when it is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import AutoConfig

from clamp.config import (
    Config,
    ConfigError,
    DataConfig,
    EncoderConfig,
    ModelConfig,
    TrainConfig,
    VisionConfig,
    config_from_dict,
    model_config_from_dict,
    override,
)
from clamp.config_file import read_object, read_overrides
from clamp.data import data_manifest, load_splits
from clamp.data.own_data import has_proxies, proxy_fields
from clamp.data.splits import Splits
from clamp.data.twitter import image_folder
from clamp.encoders import locate_weights, one_line_errors
from clamp.inference.model_card import model_card
from clamp.system.files import locked, written
from clamp.training.checkpoint import CHECKPOINT
from clamp.training.distributed import is_distributed, train_distributed
from clamp.training.train import TrainingDiverged, train

_BEGUN = "run.json"
_HEAD = 64  # width of an attention head, as in the encoders of the paper profile


def own_config(
    data: Path, architecture: str, text: str, vision: str | None, changes: Path | None, seed: int, threads: int
) -> Config:
    """The config that suits the data in `data`; `vision` None: by what lies there. `changes` has the last word.

    ConfigError where weights or changes cannot be used.
    """
    width = _hub_size(text, "hidden_size")
    how = vision or _vision_by_what_is_there(data, architecture)
    base = Config(
        data=_data_config(data, how),
        model=ModelConfig(
            architecture=architecture,  # type: ignore[arg-type]
            text=EncoderConfig(weights=text),
            vision=_vision_config(how),
            width=width,
            heads=next(heads for heads in (width // _HEAD, 4, 2, 1) if heads and width % heads == 0),
        ),
        train=TrainConfig(epochs=6, batch_size=16, lr_encoder=1e-4, lr_head=1e-3, threads=threads),
    )
    base = override(base, {"train.seed": seed}, "--seed")
    return base if changes is None else override(base, read_overrides(changes, base), changes)


def _vision_by_what_is_there(data: Path, architecture: str) -> str:
    if architecture == "text_only":
        return "none"
    if has_proxies(data) or architecture == "caption_concat":
        return "proxy"
    return "none" if image_folder(data) is None else "conv"


def _data_config(data: Path, how: str) -> DataConfig:
    if how == "proxy":
        return DataConfig(name="own", visual="proxy", proxy_fields=proxy_fields(data))
    return DataConfig(name="own", visual="none" if how == "none" else "image")


def _vision_config(how: str) -> VisionConfig:
    if how in ("proxy", "none"):
        return VisionConfig(kind="proxy")  # without a proxy every tweet is one without an image
    if how == "conv":
        return VisionConfig(kind="conv")
    encoder = EncoderConfig(weights=how)
    return VisionConfig(kind="transformer", encoder=encoder, image_size=_hub_size(how, "image_size"))


def _hub_size(weights: str, name: str) -> int:
    """A size from the config of an encoder."""
    with one_line_errors(weights):
        config = AutoConfig.from_pretrained(locate_weights(weights), trust_remote_code=False)
    size = getattr(config, name, None)
    if not isinstance(size, int):
        kind = "a text encoder" if name == "hidden_size" else "an image encoder"
        raise ConfigError(f"{weights}: not {kind} that can be used here: its config has no {name}")
    return size


def train_own(config: Config, data: Path, out: Path) -> dict[str, Any] | None:
    """Train in `out`, or go on there, and return the result; None in all processes but the first of several.

    A run goes on with the threads that it began with: they decide on the last bits. ConfigError where `out` holds a
    run that is done, or one of other data or settings, or another process trains there, or the loss grows beyond all
    bounds; DataError for unusable data.
    """
    leads = not is_distributed() or dist.get_rank() == 0
    with _held(out) if leads else nullcontext():
        config = _with_threads_of(out / _BEGUN, config)
        manifest = data_manifest(config.data, data)
        if leads:
            _begin(out, {"config": config.to_dict(), "data": manifest})
        try:
            result = _train(config, load_splits(config.data, data), out, leads)
        except TrainingDiverged as error:
            raise ConfigError(f"{out}: {error}; lower rates in --config may help: train.lr_encoder, lr_head") from None
        if result is not None:
            _finish(config, manifest, result, out)
        return result


@contextmanager
def _held(out: Path) -> Iterator[None]:
    try:
        with locked(out, wait=False):
            yield
    except BlockingIOError:
        raise ConfigError(f"{out}: another process is training there") from None


def _with_threads_of(begun: Path, config: Config) -> Config:
    if not begun.exists():
        return config
    before = config_from_dict(read_object(begun).get("config"), begun)
    return replace(config, train=replace(config.train, threads=before.train.threads))


def _train(config: Config, splits: Splits, out: Path, leads: bool) -> dict[str, Any] | None:
    with tqdm(total=config.train.epochs, unit=" epochs", disable=None if leads else True) as bar:

        def show(epoch: int, _: int, dev_f1: float) -> None:
            bar.update(epoch - bar.n)
            bar.set_postfix_str(f"dev F1 {100 * dev_f1:.1f}")

        return (train_distributed if is_distributed() else train)(config, splits, out, show)


def _finish(config: Config, manifest: dict[str, str], result: dict[str, Any], out: Path) -> None:
    """The model's card and the record, after which the run is done."""
    started = read_object(out / _BEGUN).get("started")
    provenance = {"data": manifest, "packages": {"torch": torch.__version__}, "started": started}
    record = {"config": config.to_dict(), "seed": config.train.seed, "result": result, "provenance": provenance}
    saved = out / "model" / "config.json"
    card = model_card(model_config_from_dict(read_object(saved), saved), record)
    (out / "model" / "README.md").write_text(card, encoding="utf-8")
    _write(out / "result.json", record)
    (out / CHECKPOINT).unlink(missing_ok=True)  # three times the model's size, and of no more use


def _begin(out: Path, identity: dict[str, Any]) -> None:
    if (out / "result.json").exists():
        raise ConfigError(f"{out}: holds a run that is done; give another --out")
    file = out / _BEGUN
    if not file.exists():
        _write(file, identity | {"started": datetime.now(UTC).isoformat(timespec="seconds")})
    elif {name: value for name, value in read_object(file).items() if name != "started"} != identity:
        raise ConfigError(f"{out}: holds an unfinished run of other data or settings; give another --out")


def _write(file: Path, values: dict[str, Any]) -> None:
    with written(file) as stream:
        stream.write(json.dumps(values, allow_nan=False).encode())
