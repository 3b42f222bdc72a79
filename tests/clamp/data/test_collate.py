"""From tweets to batches: what words become, what padding is, and which tweets meet in a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import tiny_config, tweets, with_proxies
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from clamp.data import VOCABULARY, Aspect, DataError, Tweet
from clamp.data.collate import EncodedTweets
from clamp.encoders import word_level_tokenizer
from clamp.tagging import IGNORED, TAG_INDEX


def encoded(some: list[Tweet], **changes: object) -> EncodedTweets:
    config = tiny_config(**{f"model__{name}": value for name, value in changes.items()}).model
    return EncodedTweets(some, word_level_tokenizer(VOCABULARY), config)


def test_a_batch_holds_its_tweets_and_nothing_else() -> None:
    some = tweets(6)
    some[2] = replace(some[2], image=None)
    data = encoded(some)
    chosen = [4, 2, 0]
    batch = data.batch(chosen)
    tokenizer = word_level_tokenizer(VOCABULARY)
    longest = max(len(some[index].words) for index in chosen)
    assert batch.tags_BT.shape == batch.word_mask_BT.shape == batch.first_BT.shape == (3, longest)
    for b, index in enumerate(chosen):
        tweet, n = some[index], len(some[index].words)
        assert batch.tweets[b] is tweet
        assert batch.word_mask_BT[b].tolist() == [True] * n + [False] * (longest - n)
        assert tokenizer.convert_ids_to_tokens(batch.token_ids_BS[b, batch.first_BT[b, :n]].tolist()) == list(
            tweet.words
        )
        tags = [0] * n
        for aspect in tweet.aspects:
            tags[aspect.start] = TAG_INDEX[f"B-{aspect.polarity}"]
            tags[aspect.start + 1] = TAG_INDEX[f"I-{aspect.polarity}"]
        assert batch.tags_BT[b].tolist() == tags + [IGNORED] * (longest - n)
        shown = np.zeros((64, 64, 3), dtype=np.uint8) if index == 2 else tweet.image
        assert np.array_equal(batch.pixels_BCHW[b].permute(1, 2, 0).numpy(), shown)
    assert batch.image_mask_B.tolist() == [True, False, True]
    expected = [[b, a.start, a.end] for b, index in enumerate(chosen) for a in some[index].aspects]
    assert batch.aspect_spans_N3.tolist() == expected
    assert batch.pixels_BCHW.dtype == torch.uint8


def test_padding_uses_the_padding_token() -> None:
    tokenizer = word_level_tokenizer(VOCABULARY)
    tokenizer.pad_token = VOCABULARY[0]
    short = Tweet("short", (VOCABULARY[1],), ())
    long = Tweet("long", tuple(VOCABULARY[2:6]), ())
    batch = EncodedTweets([short, long], tokenizer, tiny_config().model).batch([0, 1])
    assert batch.token_ids_BS[0, 1:].tolist() == [tokenizer.pad_token_id] * 3
    assert tokenizer.pad_token_id != 0


def test_truncation_keeps_the_gold_of_the_tweet_and_labels_what_is_left() -> None:
    words = tuple(VOCABULARY[:12])
    tweet = Tweet("long", words, (Aspect(1, 3, "POS"), Aspect(7, 10, "NEG"), Aspect(10, 12, "NEU")))
    batch = encoded([tweet], text__max_tokens=8).batch([0])
    assert batch.word_mask_BT.sum() == 8
    assert batch.tags_BT[0].tolist() == [0, TAG_INDEX["B-POS"], TAG_INDEX["I-POS"], 0, 0, 0, 0, TAG_INDEX["B-NEG"]]
    assert batch.aspect_spans_N3.tolist() == [[0, 1, 3], [0, 7, 8]]
    assert batch.tweets[0].aspects == tweet.aspects


def test_unknown_and_invisible_words_keep_their_places() -> None:
    tweet = Tweet("odd", ("zzz", "\u200b", VOCABULARY[0], "\x07"), (Aspect(2, 3, "POS"),))
    batch = encoded([tweet]).batch([0])
    assert batch.word_mask_BT.tolist() == [[True] * 4]
    assert batch.tags_BT.tolist() == [[0, 0, TAG_INDEX["B-POS"], 0]]


def test_words_are_read_at_their_first_sub_word_and_dropped_ones_as_unknown() -> None:
    pieces = ["[PAD]", "[UNK]", "un", "##seen", "ok", "#", "[CLS]"]
    backend = Tokenizer(models.WordPiece({piece: k for k, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 6)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    words = ("unseen", "\u200b", "#ok", "\x07", "ok")
    batch = EncodedTweets([Tweet("odd", words, (Aspect(4, 5, "POS"),))], tokenizer, tiny_config().model).batch([0])
    ids = batch.token_ids_BS[0]
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == [
        "[CLS]", "un", "##seen", "[UNK]", "#", "ok", "[UNK]", "ok",
    ]  # fmt: skip
    assert batch.first_BT.tolist() == [[1, 3, 4, 6, 7]]
    assert batch.word_mask_BT.all()


def test_an_image_of_another_size_is_resized_and_a_file_is_read(tmp_path: Path) -> None:
    red = np.zeros((10, 30, 3), dtype=np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "red.png")
    some = [Tweet("array", ("a",), (), image=red), Tweet("file", ("a",), (), image=tmp_path / "red.png")]
    batch = encoded(some).batch([0, 1])
    assert batch.pixels_BCHW.shape == (2, 3, 64, 64)
    for b in range(2):
        assert (batch.pixels_BCHW[b, 0] == 200).all()
        assert not batch.pixels_BCHW[b, 1:].any()


def test_a_file_that_breaks_after_loading_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").write_bytes(b"\xff\xd8 no image")
    data = encoded([Tweet("t", ("a",), (), image=tmp_path / "gone.jpg")])
    with pytest.raises(DataError, match=r"gone\.jpg"):
        data.batch([0])


def test_a_proxy_becomes_tokens_and_its_absence_an_empty_row() -> None:
    some = with_proxies(tweets(3))
    some[1] = replace(some[1], proxy=None)
    batch = encoded(some, vision__kind="proxy").batch([0, 1, 2])
    assert batch.pixels_BCHW is None
    assert batch.image_mask_B.tolist() == [True, False, True]
    assert batch.proxy_mask_BL.sum(dim=1).tolist() == [6, 0, 6]
    assert batch.sentence_BL.tolist() == [[0] * 6] * 3
    assert batch.within_BL.tolist() == [[0, 1, 2, 3, 4, 5], [0] * 6, [0, 1, 2, 3, 4, 5]]
    nothing = encoded([replace(tweet, proxy=None) for tweet in some], vision__kind="proxy").batch([0, 1])
    assert nothing.proxy_ids_BL.shape == (2, 1)
    assert not nothing.proxy_mask_BL.any()


def test_moving_a_batch_keeps_it_whole() -> None:
    batch = encoded(tweets(2)).batch([0, 1])
    moved = batch.to(torch.device("cpu"))
    assert moved.tweets == batch.tweets
    assert torch.equal(moved.pixels_BCHW, batch.pixels_BCHW)
    assert moved.proxy_ids_BL is None


def test_lengths_count_the_proxy_too() -> None:
    some = with_proxies(tweets(2))
    assert encoded(some).lengths_N2.tolist() == [[len(tweet.words), 0] for tweet in some]
    assert encoded(some, vision__kind="proxy").lengths_N2.tolist() == [[len(tweet.words), 6] for tweet in some]


def framed_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words between [CLS] and [SEP]; a second segment after one more [SEP], as RoBERTa has it."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{k}" for k in range(40))]
    backend = Tokenizer(models.WordLevel({piece: k for k, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP]:1 $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


def words(count: int, first: int = 0) -> tuple[str, ...]:
    return tuple(f"w{k}" for k in range(first, first + count))


@pytest.mark.parametrize(("count", "kept"), [(9, 9), (10, 10), (11, 10), (30, 10)])
def test_a_text_is_cut_to_what_its_special_tokens_leave(count: int, kept: int) -> None:
    config = tiny_config(model__text__max_tokens=12).model
    batch = EncodedTweets([Tweet("t", words(count), ())], framed_tokenizer(), config).batch([0])
    assert batch.word_mask_BT.sum() == kept
    assert batch.token_ids_BS.tolist() == [[2, *range(4, 4 + kept), 3]]


@pytest.mark.parametrize(
    ("own", "caption"),
    [(3, 5), (3, 6), (6, 2), (7, 1), (8, 0), (9, 0), (10, 0), (20, 0)],  # 12 tokens, 4 of them special
)
def test_an_appended_caption_gets_the_room_that_is_left(own: int, caption: int) -> None:
    config = tiny_config(model__text__max_tokens=12, model__architecture="caption_concat").model
    tweet = Tweet("t", words(own), (), proxy=(" ".join(words(3, 20)), " ".join(words(3, 23))))
    batch = EncodedTweets([tweet], framed_tokenizer(), config).batch([0])
    caption = min(caption, 12 - own - 4) if caption else 0
    alone = [2, *range(4, 4 + min(own, 10)), 3]
    expected = [*alone, 3, *range(24, 24 + caption), 3] if caption else alone
    assert batch.token_ids_BS.tolist() == [expected]
    assert batch.segment_ids_BS.tolist() == [[0] * len(alone) + [1] * (len(expected) - len(alone))]
    assert batch.word_mask_BT.sum() == min(own, 10)


@pytest.mark.parametrize(("count", "kept"), [(1, 3), (9, 11), (10, 12), (11, 12), (30, 12)])
def test_each_sentence_of_a_proxy_is_cut_by_itself(count: int, kept: int) -> None:
    config = tiny_config(model__text__max_tokens=12, model__vision={"kind": "proxy"}).model
    proxy = (" ".join(words(2)), " ".join(words(count, 5)), " ".join(words(3, 36)))
    some = [Tweet("t", words(2), (), proxy=proxy), Tweet("u", words(2), (), proxy=proxy[:1])]
    data = EncodedTweets(some, framed_tokenizer(), config)
    batch = data.batch([0, 1])
    assert data.lengths_N2.tolist() == [[4, 4 + kept + 5], [4, 4]]
    assert batch.proxy_ids_BL[0].tolist() == [2, 4, 5, 3, 2, *range(9, 9 + kept - 2), 3, 2, 40, 41, 42, 3]
    assert batch.sentence_BL[0].tolist() == [0] * 4 + [1] * kept + [2] * 5
    assert batch.within_BL[0].tolist() == [*range(4), *range(kept), *range(5)]
    assert batch.sentences == (3, max(kept, 5))
    assert batch.proxy_mask_BL[1].tolist() == [True] * 4 + [False] * (kept + 5)
    assert batch.sentence_BPL.sum(dim=2).tolist() == [[4, kept, 5], [4, 0, 0]]
