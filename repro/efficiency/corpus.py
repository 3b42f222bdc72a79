"""Scoring a corpus twice: what the feature cache saves on the second pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from clamp.data.collate import Batch
from clamp.inference.feature_cache import FolderStore, cached_features
from clamp.model import Tagger
from repro.efficiency.steps import precision
from repro.efficiency.systems import Size, make_batch
from repro.efficiency.timing import Rounds, ratios, spread, timed_rounds

PASSES = ("no cache", "first pass", "second pass")
_AMPLE = 2**40


def corpus_batches(size: Size, tweets: int, batch_size: int, device: torch.device) -> list[Batch]:
    """Distinct images; texts as long as tweets are: 22 sub-words on average, 11 to 33, in batches of similar length."""
    count = -(-tweets // batch_size)
    mean = min(22, 2 * size.tokens // 3)  # the longest are half as long again
    whole = make_batch(size, count * batch_size, device)
    found = []
    for place in range(count):
        rows = torch.arange(place * batch_size, (place + 1) * batch_size, device=device)
        length = round(mean * (0.5 + (place + 0.5) / count))
        found.append(
            Batch(
                tweets=[],
                token_ids_BS=whole.token_ids_BS[rows, :length],
                token_mask_BS=whole.token_mask_BS[rows, :length],
                first_BT=whole.first_BT[rows, :length],
                word_mask_BT=whole.word_mask_BT[rows, :length],
                tags_BT=whole.tags_BT[rows, :length],
                aspect_spans_N3=whole.aspect_spans_N3[:0],
                image_mask_B=whole.image_mask_B[rows],
                pixels_BCHW=None if whole.pixels_BCHW is None else whole.pixels_BCHW[rows],
            )
        )
    return found


def passes(model: Tagger, batches: list[Batch], rounds: Rounds, device: torch.device) -> Iterator[dict[str, Any]]:
    """A row for each of PASSES: the files of a new folder in each round, a read of them, and neither.

    `same_output` is whether the logits are those of the first pass to the bit, in every round.
    """
    outputs: dict[str, list[Tensor]] = {}
    same: list[bool] = []

    def read(name: str, folder: Path | None) -> Callable[[], None]:
        def one_pass() -> None:
            store = None if folder is None else FolderStore(folder, _AMPLE)
            with (
                nullcontext() if store is None else cached_features(model, store),
                torch.no_grad(),
                precision(device),
            ):
                outputs[name] = [model(batch).tag_logits_BTC for batch in batches]

        return one_pass

    seconds: dict[str, list[float]] = {name: [] for name in PASSES}
    for _ in range(rounds.least):
        with TemporaryDirectory() as temporary:
            folders = dict(zip(PASSES, (None, Path(temporary), Path(temporary)), strict=True))
            timed = timed_rounds({name: read(name, folder) for name, folder in folders.items()}, Rounds(1, 0.0), device)
        for name in PASSES:
            seconds[name] += timed[name]
        pairs = zip(outputs[PASSES[1]], outputs[PASSES[2]], strict=True)
        same.append(all(torch.equal(one, two) for one, two in pairs))
    for name in PASSES:
        row = {"variant": name, "ms": spread(seconds[name], 1e3), "ratio": ratios(seconds[name], seconds[PASSES[1]])}
        yield row | {"tweets": sum(len(batch.image_mask_B) for batch in batches), "same_output": all(same)}
