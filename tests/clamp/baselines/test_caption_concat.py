"""The caption as second segment: what is put together, what is cut, and what is left when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from builders import BERT, batch_of, tiny_config, tiny_model, tweets
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from clamp.config import ModelConfig
from clamp.data import VOCABULARY, Aspect, Tweet
from clamp.data.collate import Batch, EncodedTweets
from clamp.encoders import word_level_tokenizer

ROBERTA = BERT | {"model_type": "roberta", "type_vocab_size": 1, "max_position_embeddings": 70}
TWEET = Tweet("t", ("lovely", "red", "kite"), (Aspect(1, 3, "POS"),), proxy=("blue box , red kite , pink star",))


def config(**changes: object) -> ModelConfig:
    return tiny_config(
        model__architecture="caption_concat", **{f"model__{name}": value for name, value in changes.items()}
    ).model


def separating_tokenizer() -> PreTrainedTokenizerFast:
    """[CLS] words [SEP] caption [SEP], as BERT's."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *VOCABULARY]
    backend = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")


def read(tokenizer: PreTrainedTokenizerFast, batch: Batch, b: int = 0) -> tuple[list[str], list[int]]:
    """What is read of a tweet, and the segment of each token."""
    kept = batch.token_mask_BS[b]
    assert batch.segment_ids_BS is not None
    tokens = tokenizer.convert_ids_to_tokens(batch.token_ids_BS[b][kept].tolist())
    return tokens, batch.segment_ids_BS[b][kept].tolist()


def test_the_caption_follows_the_words_and_belongs_to_none_of_them() -> None:
    tokenizer = separating_tokenizer()
    batch = EncodedTweets([TWEET, replace(TWEET, words=TWEET.words[:1], aspects=())], tokenizer, config()).batch([0, 1])
    caption = ["blue", "box", ",", "red", "kite", ",", "pink", "star", "[SEP]"]
    assert read(tokenizer, batch) == (["[CLS]", "lovely", "red", "kite", "[SEP]", *caption], [0] * 5 + [1] * 9)
    assert read(tokenizer, batch, 1) == (["[CLS]", "lovely", "[SEP]", *caption], [0] * 3 + [1] * 9)
    # longer than the tweet, so that a count of words across both segments would be one of caption words too
    assert batch.first_BT.tolist() == [[1, 2, 3], [1, 0, 0]]
    assert batch.word_mask_BT.tolist() == [[True] * 3, [True, False, False]]
    assert batch.aspect_spans_N3.tolist() == [[0, 1, 3]]
    assert batch.pixels_BCHW is None
    assert batch.proxy_ids_BL is None


def test_a_tokenizer_without_separators_tells_the_segments_apart() -> None:
    tokenizer = word_level_tokenizer(VOCABULARY)
    batch = EncodedTweets([TWEET], tokenizer, config()).batch([0])
    assert read(tokenizer, batch) == ([*TWEET.words, *TWEET.proxy_text.split()], [0] * 3 + [1] * 8)


@pytest.mark.parametrize(("limit", "kept"), [(20, 8), (14, 8), (13, 7), (8, 2)])
def test_truncation_takes_from_the_caption(limit: int, kept: int) -> None:
    tokenizer = separating_tokenizer()
    batch = EncodedTweets([TWEET], tokenizer, config(text__max_tokens=limit)).batch([0])
    tokens, segments = read(tokenizer, batch)
    assert tokens == ["[CLS]", *TWEET.words, "[SEP]", *TWEET.proxy_text.split()[:kept], "[SEP]"]
    assert segments == [0] * 5 + [1] * (kept + 1)


@pytest.mark.parametrize(("words", "kept", "caption"), [(4, 4, 1), (5, 5, 0), (6, 6, 0), (7, 6, 0)])
def test_words_are_never_cut_for_a_caption(words: int, kept: int, caption: int) -> None:
    tokenizer = separating_tokenizer()
    tweet = replace(TWEET, words=TWEET.words[:1] * words, aspects=())
    batch = EncodedTweets([tweet], tokenizer, config(text__max_tokens=8)).batch([0])
    assert batch.word_mask_BT.sum() == kept
    tail = ["blue", "[SEP]"] if caption else []
    assert read(tokenizer, batch)[0] == ["[CLS]", *tweet.words[:kept], "[SEP]", *tail]


@pytest.mark.parametrize("proxy", [None, (), ("  ",)])
@pytest.mark.parametrize("tokenizer", [separating_tokenizer(), word_level_tokenizer(VOCABULARY)])
def test_without_a_caption_the_sentence_is_read_alone(
    proxy: tuple[str, ...] | None, tokenizer: PreTrainedTokenizerFast
) -> None:
    lone = replace(TWEET, proxy=proxy)
    captioned, plain = (EncodedTweets([lone], tokenizer, c).batch([0]) for c in (config(), tiny_config().model))
    assert torch.equal(captioned.token_ids_BS, plain.token_ids_BS)
    assert torch.equal(captioned.first_BT, plain.first_BT)
    assert not captioned.segment_ids_BS.any()
    assert plain.segment_ids_BS is None


def test_without_captions_it_is_text_only_bit_for_bit() -> None:
    some = [replace(tweet, proxy=None) for tweet in tweets(4)]
    captioned, text_only = (
        tiny_model(tiny_config(model__architecture=name).model) for name in ("caption_concat", "text_only")
    )
    assert captioned.state_dict().keys() == text_only.state_dict().keys()
    found, expected = (model(batch_of(model, some)).tag_logits_BTC for model in (captioned, text_only))
    assert torch.equal(found, expected)


def test_lengths_count_the_caption() -> None:
    data = EncodedTweets([TWEET, replace(TWEET, proxy=None)], separating_tokenizer(), config())
    assert data.lengths_N2.tolist() == [[14, 0], [5, 0]]


def test_the_image_mask_tells_who_has_a_caption() -> None:
    data = EncodedTweets([TWEET, replace(TWEET, proxy=None)], separating_tokenizer(), config())
    assert data.batch([0, 1]).image_mask_B.tolist() == [True, False]


def test_segments_are_told_to_encoders_that_know_them() -> None:
    found = {}
    for name, architecture in (("bert", BERT), ("roberta", ROBERTA)):
        model = tiny_model(config(text__architecture=architecture))
        batch = batch_of(model, [TWEET])
        unsegmented = replace(batch, segment_ids_BS=torch.zeros_like(batch.segment_ids_BS))
        found[name] = torch.equal(model(batch).tag_logits_BTC, model(unsegmented).tag_logits_BTC)
    assert found == {"bert": False, "roberta": True}
