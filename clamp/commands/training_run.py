"""A training run on annotated tweets of one's own: its config, from what the data and the encoders are, and its files.

A run's folder holds run.json (what is trained, written first), what training writes, and result.json when it is done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import AutoConfig

from clamp.commands.training_log import training_log
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
from clamp.corpus.convertible import refuse_convertible
from clamp.data import data_manifest, load_splits
from clamp.data.labels import Labels
from clamp.data.own_data import has_proxies, proxy_fields
from clamp.data.splits import Splits
from clamp.data.twitter import annotation_file, image_folder
from clamp.encoders import locate_weights, one_line_errors
from clamp.inference.model_card import model_card
from clamp.system.files import locked, written
from clamp.training.checkpoint import CHECKPOINT
from clamp.training.distributed import is_distributed, train_distributed
from clamp.training.train import TrainingDiverged, train

_BEGUN = "run.json"
_HEAD = 64  # width of an attention head, as in the encoders of the paper profile


def own_config(
    data: Path, architecture: str, text: str, vision: str | None, changes: Path | None, given: Mapping[str, Any]
) -> Config:
    """The config that suits the data in `data`; `vision` None: by what lies there.

    `changes` is a file of other settings, `given` are dotted ones, which have the last word. ConfigError where weights
    or changes cannot be used.
    """
    how = vision or _vision_by_what_is_there(data, architecture)
    base = Config(
        data=_data_config(data, how),
        model=ModelConfig(
            architecture=architecture,  # type: ignore[arg-type]
            text=EncoderConfig(weights=text),
            vision=_vision_config(how),
        ),
        train=TrainConfig(epochs=6, batch_size=16, lr_encoder=1e-4, lr_head=1e-3),
    )
    changed = {} if changes is None else read_overrides(changes, base)
    source: str | Path = changes or "settings"
    width = _text_width(override(base, {k: v for k, v in changed.items() if k.startswith("model.text")}, source))
    heads = next(heads for heads in (width // _HEAD, 4, 2, 1) if heads and width % heads == 0)
    sized = override(base, {"model.width": width, "model.heads": heads}, "settings")
    return override(override(sized, changed, source), dict(given), "options")


def _text_width(config: Config) -> int:
    """Of the text encoder: what the model's own width is, unless settings say otherwise."""
    text = config.model.text
    if text.weights is not None:
        return _hub_size(text.weights, "hidden_size")
    size = (text.architecture or {}).get("hidden_size")
    if not isinstance(size, int):
        raise ConfigError("model.text: without weights its architecture needs model_type and hidden_size")
    return size


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
    located = locate_weights(weights)
    with one_line_errors(weights):
        config = AutoConfig.from_pretrained(located, trust_remote_code=False)
    size = getattr(config, name, None)
    if not isinstance(size, int):
        kind = "a text encoder" if name == "hidden_size" else "an image encoder"
        raise ConfigError(f"{weights}: not {kind} that can be used here: its config has no {name}")
    return size


def train_own(
    config: Config, data: Path, out: Path, labels: Labels | None = None, log: str | None = None
) -> dict[str, Any] | None:
    """Train in `out`, or go on there, and return the result; None in all processes but the first of several.

    A run that is done already is left as it is. Without test tweets there are no scores on them. A run goes on with the
    threads that it began with: they decide on the last bits. ConfigError where `out` holds a run of other data or
    settings, or another process trains there, or the loss grows beyond all bounds; DataError for unusable data.
    """
    labels = labels or Labels()
    leads = not is_distributed() or dist.get_rank() == 0
    with _held(out) if leads else nullcontext():
        config = _with_threads_of(out / _BEGUN, config)
        refuse_convertible(data)
        manifest = data_manifest(config.data, data, labels)
        identity = {"config": config.to_dict(), "data": manifest}
        if (out / "result.json").exists():
            return _done_before(out, identity) if leads else None
        if leads:
            _begin(out, identity)
        splits = load_splits(config.data, data, labels)
        images = {split: asdict(loaded.images) for split, loaded in splits.loaded.items()}
        if leads:
            _say(splits, labels, data, config)
        try:
            result = _train(config, splits, out, leads, log)
        except TrainingDiverged as error:
            raise ConfigError(f"{out}: {error}; lower rates in --config may help: train.lr_encoder, lr_head") from None
        if result is not None:
            _finish(config, manifest, result, images, out)
        return result


def _say(splits: Splits, labels: Labels, data: Path, config: Config) -> None:
    """On what is trained: how many tweets and images, and what was taken for granted."""
    for split, loaded in splits.loaded.items():
        aspects = sum(len(tweet.aspects) for tweet in loaded.tweets)
        dropped = f", {loaded.dropped} left out because of their labels" if loaded.dropped else ""
        file = annotation_file(data, split).name
        tqdm.write(
            f"{file}: {len(loaded.tweets)} tweets, {aspects} aspects{dropped}; images: {loaded.images}", sys.stderr
        )
    for note in labels.notes:
        tqdm.write(note, sys.stderr)
    if config.data.visual == "none" and config.model.architecture != "text_only":
        tqdm.write("no image is read: the model learns from the words alone", sys.stderr)


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


def _train(config: Config, splits: Splits, out: Path, leads: bool, log: str | None) -> dict[str, Any] | None:
    best = 0.0
    tested = bool(splits.test)
    if not tested:  # the trainer scores three splits; what is said of this one is left out below
        splits = replace(splits, test=splits.dev)
    with training_log(log if leads else None, out, config.to_dict()) as tell:

        def show(epoch: int, epochs: int, dev_f1: float) -> None:
            nonlocal best
            best = max(best, dev_f1)
            if leads:
                tqdm.write(f"epoch {epoch} of {epochs}: dev F1 {100 * dev_f1:.1f}, best {100 * best:.1f}", sys.stderr)
            tell(epoch, dev_f1, best)

        result = (train_distributed if is_distributed() else train)(config, splits, out, show)
    return result if tested or result is None else _without_test(result)


def _without_test(result: dict[str, Any]) -> dict[str, Any]:
    """A result that says nothing of test tweets, of which there are none."""
    curve = [{name: value for name, value in epoch.items() if name != "test_f1"} for epoch in result["curve"]]
    parts = {
        part: {split: value for split, value in result[part].items() if split != "test"}
        for part in ("metrics", "per_tweet", "images")
    }
    return {**result, **parts, "curve": curve}


def _finish(
    config: Config, manifest: dict[str, str], result: dict[str, Any], images: dict[str, Any], out: Path
) -> None:
    """The model's card and the record, after which the run is done."""
    started = read_object(out / _BEGUN).get("started")
    provenance = {"data": manifest, "packages": {"torch": torch.__version__}, "started": started}
    record = {"config": config.to_dict(), "seed": config.train.seed, "result": result, "provenance": provenance}
    record["images"] = images
    saved = out / "model" / "config.json"
    card = model_card(model_config_from_dict(read_object(saved), saved), record)
    with written(out / "model" / "README.md") as stream:
        stream.write(card.encode())
    _write(out / "result.json", record)
    (out / CHECKPOINT).unlink(missing_ok=True)  # three times the model's size, and of no more use


def _begin(out: Path, identity: dict[str, Any]) -> None:
    file = out / _BEGUN
    if not file.exists():
        _write(file, identity | {"started": datetime.now(UTC).isoformat(timespec="seconds")})
    elif _identity_in(file) != identity:
        raise ConfigError(f"{out}: holds an unfinished run of other data or settings; give another --out")


def _done_before(out: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The result of a run that is done, if it is this one."""
    if _identity_in(out / _BEGUN) != identity:
        raise ConfigError(f"{out}: holds a run of other data or settings that is done; give another --out")
    tqdm.write(f"was trained before: {out}", sys.stderr)
    return read_object(out / "result.json")["result"]


def _identity_in(begun: Path) -> dict[str, Any]:
    return {name: value for name, value in read_object(begun).items() if name != "started"}


def _write(file: Path, values: dict[str, Any]) -> None:
    with written(file) as stream:
        stream.write(json.dumps(values, allow_nan=False).encode())
