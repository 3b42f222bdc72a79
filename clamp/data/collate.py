"""From tweets to padded batches. The model reads the first sub-word of every word only, so that is what T counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Encoding
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from clamp.config import ModelConfig
from clamp.data.images import read_image
from clamp.data.schema import Tweet
from clamp.tagging import IGNORED, encode_aspects


@dataclass(frozen=True)
class Batch:
    """B tweets of at most T words (S sub-words, L proxy sub-words). Masks are True where there is something.

    `first_BT` is the sub-word position of every word; `tags_BT` holds IGNORED outside the words; `aspect_spans_N3`
    (tweet, start, end); `pixels_BCHW` uint8; `sentence_BL` and `within_BL`: which of a proxy's sentences a sub-word
    stands in, and where; `features_BRH`: what a frozen encoder said of every region, where that is known already;
    `segment_ids_BS` tells a tweet (0) from the caption after it (1), where captions are appended.
    """

    tweets: list[Tweet]
    token_ids_BS: Tensor
    token_mask_BS: Tensor
    first_BT: Tensor
    word_mask_BT: Tensor
    tags_BT: Tensor
    aspect_spans_N3: Tensor
    image_mask_B: Tensor
    pixels_BCHW: Tensor | None = None
    proxy_ids_BL: Tensor | None = None
    proxy_mask_BL: Tensor | None = None
    sentence_BL: Tensor | None = None
    within_BL: Tensor | None = None
    sentences: tuple[int, int] = (0, 0)  # of a proxy at most, and sub-words of one at most
    features_BRH: Tensor | None = None
    segment_ids_BS: Tensor | None = None

    @property
    def sentence_BPL(self) -> Tensor | None:
        """Which sub-words (L) make up which of a proxy's sentences (P); None where there is no proxy."""
        if self.sentence_BL is None or self.proxy_mask_BL is None:
            return None
        number_P = torch.arange(self.sentences[0], device=self.sentence_BL.device)
        return (self.sentence_BL[:, None] == number_P[:, None]) & self.proxy_mask_BL[:, None]

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if isinstance(v, Tensor)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Encoded:
    """One tweet as ids, and the sub-word position of each word that truncation left."""

    ids: list[int]
    segments: list[int]
    first: list[int]
    proxy: list[list[int]]  # a row of ids a sentence

    @property
    def proxy_length(self) -> int:
        return sum(map(len, self.proxy))


def _as_encoded(encoding: Encoding) -> _Encoded:
    first: list[int] = []
    for position, (word, sequence) in enumerate(zip(encoding.word_ids, encoding.sequence_ids, strict=True)):
        if sequence == 0 and word == len(first):  # special tokens are of no sequence, a caption is of sequence 1
            first.append(position)
    return _Encoded(encoding.ids, encoding.type_ids, first, [])


def _pad(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    width = max(1, max(map(len, rows)))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.int64)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and their mask, (rows, longest) int64; what is masked is 0."""
    return _pad(rows, 0), _mask(rows).long()


def _mask(rows: Sequence[Sequence[int]]) -> Tensor:
    return _pad([[1] * len(row) for row in rows], 0).bool()


def _regions_of_proxies(proxies: Sequence[Sequence[Sequence[int]]], padding: int) -> dict[str, Any]:
    """Every sub-word of every sentence is a region; a tweet without a proxy has none."""
    ids_BL = _pad([[token for ids in proxy for token in ids] for proxy in proxies], padding)
    mask_BL = _mask([[token for ids in proxy for token in ids] for proxy in proxies])
    lengths = [[len(ids) for ids in proxy] for proxy in proxies]
    return {
        "proxy_ids_BL": ids_BL,
        "proxy_mask_BL": mask_BL,
        "sentence_BL": _pad([[k for k, length in enumerate(row) for _ in range(length)] for row in lengths], 0),
        "within_BL": _pad([[place for length in row for place in range(length)] for row in lengths], 0),
        "sentences": (max(1, max(map(len, proxies))), max((length for row in lengths for length in row), default=1)),
        "image_mask_B": mask_BL.any(dim=1),
    }


class EncodedTweets:
    """Tweets tokenised once; images are decoded and resized when first asked for, and then kept as uint8."""

    def __init__(self, tweets: Sequence[Tweet], tokenizer: PreTrainedTokenizerFast, config: ModelConfig) -> None:
        self.tweets = list(tweets)
        self.vision = config.vision
        self.appends_caption = config.architecture == "caption_concat"
        self.max_tokens = config.text.max_tokens
        self._tokenizer = tokenizer
        self._encoded = self._encode_all()
        self._pixels: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.tweets)

    @property
    def lengths_N2(self) -> np.ndarray:
        """Sub-words of every tweet and of its proxy text: the two parts that a batch pads."""
        return np.array([(len(row.ids), row.proxy_length) for row in self._encoded]).reshape(-1, 2)

    def _encode_all(self) -> list[_Encoded]:
        """Every tweet, in one call of the tokenizer but for those that need care: it is several times as fast."""
        plain = self._plain_encodings()
        proxies = self._proxies()
        return [
            replace(self._encode(tweet) if encoding is None else _as_encoded(encoding), proxy=proxy)
            for tweet, encoding, proxy in zip(self.tweets, plain, proxies, strict=True)
        ]

    def _plain_encodings(self) -> list[Encoding | None]:
        """Of each tweet; None where a caption follows, where it is too long, or where a word left no trace."""
        if self.appends_caption or not self.tweets:
            return [None] * len(self.tweets)
        words = [list(tweet.words) for tweet in self.tweets]
        encodings = self._tokenizer(words, is_split_into_words=True, verbose=False).encodings
        return [
            encoding if len(encoding) <= self.max_tokens and len({*encoding.word_ids} - {None}) == len(row) else None
            for encoding, row in zip(encodings, words, strict=True)
        ]

    def _proxies(self) -> list[list[list[int]]]:
        """Of every tweet a row of ids a sentence of its proxy, special tokens among them, each cut by itself."""
        reads = self.vision.kind == "proxy" and not self.appends_caption
        proxies = [tweet.proxy or () if reads else () for tweet in self.tweets]
        sentences = [sentence for proxy in proxies for sentence in proxy]
        if not sentences:
            return [[] for _ in proxies]
        rows = iter(self._tokenizer(sentences, truncation=True, max_length=self.max_tokens)["input_ids"])
        return [[ids for ids in islice(rows, len(proxy)) if ids] for proxy in proxies]

    def _encode(self, tweet: Tweet) -> _Encoded:
        words = self._readable(tweet.words)
        encoding = self._tokenizer(words, is_split_into_words=True, truncation=True, max_length=self.max_tokens)
        caption = tweet.proxy_text.split() if self.appends_caption else []
        if caption and self._room_after(len(encoding["input_ids"])) > 0:
            encoding = self._tokenizer(
                words, caption, is_split_into_words=True, truncation="only_second", max_length=self.max_tokens
            )
        return _as_encoded(encoding.encodings[0])

    def _room_after(self, length: int) -> int:
        """Sub-words of a second segment that fit behind a first one of `length`, special tokens included."""
        separators = self._tokenizer.num_special_tokens_to_add(pair=True)
        separators -= self._tokenizer.num_special_tokens_to_add(pair=False)
        return self.max_tokens - length - separators

    def _readable(self, words: Sequence[str]) -> list[str]:
        """The words, those that the tokenizer would drop without a trace (control characters, say) as unknown."""
        seen = set(self._tokenizer(list(words), is_split_into_words=True).word_ids())
        return [word if position in seen else self._tokenizer.unk_token for position, word in enumerate(words)]

    def _resized(self, index: int) -> np.ndarray:
        if index not in self._pixels:
            image = self.tweets[index].image
            side = self.vision.image_size
            pixels = image if isinstance(image, np.ndarray) else None if image is None else read_image(image)
            if pixels is None:
                pixels = np.zeros((side, side, 3), dtype=np.uint8)
            elif pixels.shape[:2] != (side, side):
                pixels = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
            self._pixels[index] = pixels
        return self._pixels[index]

    def batch(self, indices: Sequence[int]) -> Batch:
        """The tweets at these positions, padded to the longest of them."""
        return self._batch(indices, self._visual(indices))

    def _batch(self, indices: Sequence[int], visual: dict[str, Any]) -> Batch:
        tweets = [self.tweets[index] for index in indices]
        rows = [self._encoded[index] for index in indices]
        tags = [encode_aspects(t.aspects, len(row.first)) for t, row in zip(tweets, rows, strict=True)]
        spans = [
            (b, aspect.start, min(aspect.end, len(rows[b].first)))
            for b, tweet in enumerate(tweets)
            for aspect in tweet.aspects
            if aspect.start < len(rows[b].first)
        ]
        return Batch(
            tweets=tweets,
            token_ids_BS=_pad([row.ids for row in rows], self._tokenizer.pad_token_id),
            token_mask_BS=_mask([row.ids for row in rows]),
            first_BT=_pad([row.first for row in rows], 0),
            word_mask_BT=_mask([row.first for row in rows]),
            tags_BT=_pad(tags, IGNORED),
            aspect_spans_N3=torch.tensor(spans, dtype=torch.int64).reshape(-1, 3),
            **visual,
        )

    def _visual(self, indices: Sequence[int]) -> dict[str, Any]:
        """The fields of a batch that tell of images."""
        tweets = [self.tweets[index] for index in indices]
        rows = [self._encoded[index] for index in indices]
        if self.appends_caption:
            return {
                "segment_ids_BS": _pad([row.segments for row in rows], 0),
                "image_mask_B": torch.tensor([bool(tweet.proxy) for tweet in tweets]),
            }
        if self.vision.kind == "proxy":
            return _regions_of_proxies([row.proxy for row in rows], self._tokenizer.pad_token_id)
        pixels = np.stack([self._resized(index) for index in indices])
        return {
            "pixels_BCHW": torch.from_numpy(pixels).permute(0, 3, 1, 2),
            "image_mask_B": torch.tensor([tweet.image is not None for tweet in tweets]),
        }
