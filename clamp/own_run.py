"""A training run on annotated tweets of one's own: its config, from what the data and the encoders are, and its files.

A run's folder holds run.json (what is trained, written first), what training writes, and result.json when it is done.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import AutoConfig

from clamp.atomic import written
from clamp.checkpoint import CHECKPOINT
from clamp.config import (
    Config,
    ConfigError,
    DataConfig,
    EncoderConfig,
    ModelConfig,
    TrainConfig,
    VisionConfig,
    model_config_from_dict,
    override,
)
from clamp.data import data_manifest, load_splits
from clamp.distributed import is_distributed, train_distributed
from clamp.encoders import locate_weights, one_line_errors
from clamp.model_card import model_card
from clamp.own_data import has_proxies, proxy_fields
from clamp.settings_file import read_object, read_overrides
from clamp.train import train

_HEAD = 64  # width of an attention head, as in the encoders of the paper profile


def own_config(
    data: Path, architecture: str, text: str, vision: str | None, changes: Path | None, seed: int, threads: int
) -> Config:
    """The config that suits the data in `data`; `vision` None: by what lies there. `changes` has the last word.

    ConfigError where weights or changes cannot be used.
    """
    read = _hub_config(text)
    width = read.hidden_size
    how = vision or _vision_by_what_is_there(data, architecture)
    base = Config(
        data=_data_config(data, how),
        model=ModelConfig(
            architecture=architecture,  # type: ignore[arg-type]
            text=EncoderConfig(weights=text),
            vision=_vision_config(how),
            width=width,
            heads=width // _HEAD if width % _HEAD == 0 else 4,
        ),
        train=TrainConfig(epochs=6, batch_size=16, lr_encoder=1e-4, lr_head=1e-3, seed=seed, threads=threads),
    )
    return base if changes is None else override(base, read_overrides(changes, base), changes)


def _vision_by_what_is_there(data: Path, architecture: str) -> str:
    if architecture == "text_only":
        return "none"
    if has_proxies(data) or architecture == "caption_concat":
        return "proxy"
    return "conv" if (data / "images").is_dir() else "none"


def _data_config(data: Path, how: str) -> DataConfig:
    if how == "proxy":
        return DataConfig(name="own", visual="proxy", proxy_fields=proxy_fields(data))
    return DataConfig(name="own", visual="none" if how == "none" else "image")


def _vision_config(how: str) -> VisionConfig:
    if how in ("proxy", "none"):
        return VisionConfig(kind="proxy")  # without a proxy every tweet is one without an image
    if how == "conv":
        return VisionConfig(kind="conv")
    return VisionConfig(kind="transformer", encoder=EncoderConfig(weights=how), image_size=_hub_config(how).image_size)


def _hub_config(weights: str) -> Any:
    with one_line_errors(weights):
        return AutoConfig.from_pretrained(locate_weights(weights), trust_remote_code=False)


def train_own(config: Config, data: Path, out: Path) -> dict[str, Any] | None:
    """Train in `out`, or go on there, and return the result; None in all processes but the first of several.

    ConfigError where `out` holds a run that is done, or one of other data or settings; DataError for unusable data.
    """
    leads = not is_distributed() or dist.get_rank() == 0
    identity = {"config": config.to_dict(), "data": data_manifest(config.data, data)}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    if leads:
        _begin(out, identity)
    splits = load_splits(config.data, data)
    with tqdm(total=config.train.epochs, unit=" epochs", disable=None if leads else True) as bar:

        def show(epoch: int, _: int, dev_f1: float) -> None:
            bar.update(epoch - bar.n)
            bar.set_postfix_str(f"dev F1 {100 * dev_f1:.1f}")

        result = (train_distributed if is_distributed() else train)(config, splits, out, show)
    if result is None:
        return None
    packages = {"torch": torch.__version__}
    provenance = {"data": identity["data"], "packages": packages, "started": started}
    record = {"config": config.to_dict(), "seed": config.train.seed, "result": result, "provenance": provenance}
    model_config = model_config_from_dict(read_object(out / "model" / "config.json"), out / "model" / "config.json")
    (out / "model" / "README.md").write_text(model_card(model_config, record), encoding="utf-8")
    _write(out / "result.json", record)
    (out / CHECKPOINT).unlink(missing_ok=True)  # three times the model's size, and of no more use
    return result


def _begin(out: Path, identity: dict[str, Any]) -> None:
    if (out / "result.json").exists():
        raise ConfigError(f"{out}: holds a run that is done; give another --out")
    file = out / "run.json"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        _write(file, identity)
    elif read_object(file) != identity:
        raise ConfigError(f"{out}: holds an unfinished run of other data or settings; give another --out")


def _write(file: Path, values: dict[str, Any]) -> None:
    with written(file) as stream:
        stream.write(json.dumps(values, allow_nan=False).encode())
