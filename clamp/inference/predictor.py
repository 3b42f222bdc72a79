"""A trained model to call: tweets in, aspects out; from a folder or the model hub, and back there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HFValidationError

from clamp.baselines import ARCHITECTURES
from clamp.config import ConfigError, model_config_from_dict
from clamp.data.files import read_text
from clamp.data.schema import DataError
from clamp.encoders import locate_weights
from clamp.inference.compile import compiled
from clamp.inference.decoding import PredictionDecoder, beyond_what_is_read
from clamp.inference.forward import Image, output_arrays, ready_batches
from clamp.inference.model_card import model_card
from clamp.inference.model_folder import model_folder
from clamp.inference.prediction import Prediction
from clamp.inference.request_record import BadRecord, CorpusRow, one_line, record_of
from clamp.model import Output, Tagger

# All that is fetched from the hub: nothing in these can be executed.
FETCHED = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "README.md",
)  # fmt: skip


class Predictor(ModelHubMixin):
    """A trained model of any architecture, in eval mode, with its tokenizer and its card.

        predictor = Predictor.from_pretrained(FOLDER)
        print(predictor("a lovely evening at the river", "photo.jpg"))

    `record` is the run's result.json, for the card; `card` is the card itself where there is one already.
    `push_to_hub(repo_id)` saves and uploads it.
    """

    def __init__(self, model: Tagger, *, record: Mapping[str, Any] | None = None, card: str | None = None) -> None:
        self.model = model.eval()
        self.record = record
        self.card = card or model_card(model.config, record)
        self._forward: Callable[..., Output] | None = None  # compiled, where it is

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """The model in a folder, or of the hub under `revision`, `token` and so on, as the mixin has them.

        ConfigError names what is missing or does not fit, and says so where the hub does not answer.
        """
        name = locate_weights(model_folder(str(pretrained_model_name_or_path)))
        try:
            return super().from_pretrained(name, **options)
        except ConfigError:
            raise
        except HFValidationError:
            raise ConfigError(f"{name}: no such folder, nor can a model on the hub have that name") from None
        except Exception as error:  # of the network, the hub's client, or a config.json that is no config
            raise ConfigError(f"{name}: {(str(error) or type(error).__name__).splitlines()[0]}") from None

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,  # what the mixin finds in config.json; the model reads that file itself
    ) -> Self:
        folder = Path(model_id)
        if not folder.is_dir():
            fetched = snapshot_download(
                model_id, revision=revision, cache_dir=cache_dir, force_download=force_download,
                local_files_only=local_files_only, token=token, allow_patterns=list(FETCHED),
            )  # fmt: skip
            folder = Path(fetched)
        card = folder / "README.md"
        return cls(
            _architecture(folder).from_pretrained(folder),
            record=_record_beside(folder),
            card=read_text(card) if card.is_file() else None,
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        self.model.save_pretrained(save_directory)
        # where a card of another model lies there, it is not this one's
        (save_directory / "README.md").write_text(self.card, encoding="utf-8")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card as the hub's client has it."""
        return ModelCard(self.card)

    def fingerprint(self) -> str:
        """sha256 of all that decides on a prediction: config, weights and tokenizer."""
        digest = hashlib.sha256(json.dumps(asdict(self.model.config), sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
        digest.update(self.model.tokenizer.backend_tokenizer.to_str().encode())
        return digest.hexdigest()

    def compile(self) -> Self:
        """Compile the model for tweets that come one at a time to a CPU, in a process that goes on for long.

        At the paper's size the first prediction then takes most of a minute, as do the first of several tweets together
        and the first with regions; any later one of a single tweet takes about three quarters of the time. Each of the
        three programs holds a copy of the weights as they are when it is made (docs/efficiency.md). ConfigError where
        there is no C++ compiler. Returns itself.
        """
        self._forward = compiled(self.model.forward, any_length=True)
        return self

    def __call__(
        self,
        text: str,
        image: str | Path | np.ndarray | None = None,
        *,
        proxy: str | None = None,
        aspects: Sequence[Mapping[str, int]] | None = None,
        regions: bool = False,
    ) -> Prediction:
        """What is found in one tweet, or the polarity of the aspects that are given; see `predict`."""
        given = {} if aspects is None else {"aspects": list(aspects)}
        return self.predict([{"text": text, "image": image, "proxy": proxy} | given], regions=regions)[0]

    def predict(
        self, records: Iterable[Mapping[str, Any]], *, regions: bool = False, batch_size: int = 32
    ) -> list[Prediction]:
        """What is found in every tweet, in order.

        A record has "text" or "words", and may have "id", "image" (a file's path, its content, or pixels (H, W, 3)
        uint8), "proxy", what was said of the image, for models that read that, and "aspects", of which the polarity is
        asked for: {"start", "end"} in words or {"start_char", "end_char"} in the text, ends exclusive. A tweet whose
        image cannot be read is predicted from its words; the prediction's `image` says so. `regions` adds where the
        model looked. DataError names the first record that cannot be used, ConfigError a model that has no regions to
        show.
        """
        self.check_regions(regions)
        kept, images = [], []
        for number, fields in enumerate(records):
            try:
                images.append(_image(fields.get("image")))
                kept.append(record_of(CorpusRow(number, {k: v for k, v in fields.items() if k != "image"})))
            except BadRecord as error:
                raise DataError("records", number, one_line(str(error))) from None
        predictions: dict[int, Prediction] = {}
        decoder = PredictionDecoder(self.model)
        for ready in ready_batches(kept, images, self.model, batch_size):
            assert ready.batch is not None
            some = [kept[index] for index in ready.indices]
            for index, read in zip(ready.indices, ready.batch.word_mask_BT.sum(dim=1).tolist(), strict=True):
                if reason := beyond_what_is_read(kept[index], read):
                    raise DataError("records", index, reason)
            seen = output_arrays(self.model, ready.batch, regions=regions, forward=self._forward)
            found = decoder.decode([seen], some, ready.images)
            predictions |= zip(ready.indices, found, strict=True)
        return [predictions[index] for index in range(len(kept))]

    def check_regions(self, wanted: bool) -> None:
        """ConfigError where regions are wanted of a model that reads none."""
        if wanted and not self.model.uses_image:
            raise ConfigError(f"regions: a {self.model.config.architecture} model reads no regions of an image")


def _image(image: object) -> Image:
    if isinstance(image, str):
        return Path(image)
    if image is None or isinstance(image, Path | bytes):
        return image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    raise BadRecord("image: neither a file's path nor its content nor pixels (height, width, 3) uint8")


def _architecture(folder: Path) -> type[Tagger]:
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"{folder}: no config.json; a model folder is what save_pretrained wrote")
    try:
        values = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{file}: {error}") from None
    return ARCHITECTURES[model_config_from_dict(values, file).architecture]


def _record_beside(folder: Path) -> Mapping[str, Any] | None:
    """The record of the run that a model folder belongs to, where a readable one lies next to it."""
    try:
        record = json.loads((folder.resolve().parent / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # the model is as good without: its card says less
    return record if isinstance(record, Mapping) else None
