"""Tags and spans, and the decoders against enumeration of every path."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clamp.data import Aspect
from clamp.tagging import (
    ASPECT_OF_TAG,
    ASPECT_TAGS,
    IGNORED,
    TAG_INDEX,
    TAGS,
    TagDecoder,
    allowed_transitions,
    decode_tags,
    encode_aspects,
    polarity_probabilities,
)

POLARITY = st.sampled_from(["POS", "NEU", "NEG"])


@st.composite
def annotated(draw: st.DrawFn) -> tuple[int, list[Aspect]]:
    """A tweet's length and aspects that do not overlap; neighbours may touch."""
    aspects, word = [], 0
    for gap, length, polarity in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), POLARITY), max_size=5)):
        aspects.append(Aspect(word + gap, word + gap + length, polarity))
        word += gap + length
    return word + draw(st.integers(0, 3)), aspects


@given(annotated())
def test_decoding_takes_back_what_encoding_did(tweet: tuple[int, list[Aspect]]) -> None:
    n_words, aspects = tweet
    tags = [TAGS[index] for index in encode_aspects(aspects, n_words)]
    assert decode_tags(tags) == [(a.start, a.end, a.polarity) for a in aspects]


@given(annotated(), st.integers(0, 20))
def test_truncation_cuts_spans_and_nothing_else(tweet: tuple[int, list[Aspect]], kept: int) -> None:
    n_words, aspects = tweet
    kept = min(kept, n_words)
    assert encode_aspects(aspects, kept) == encode_aspects(aspects, n_words)[:kept]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("I-POS I-POS O", []),
        ("O I-NEG B-NEG", [(2, 3, "NEG")]),
        ("B-POS I-NEG I-NEG", [(0, 1, "POS")]),
        ("B-POS I-NEG I-POS", [(0, 1, "POS")]),
        ("B-POS B-POS I-POS", [(0, 1, "POS"), (1, 3, "POS")]),
        ("B-NEU I-NEU", [(0, 2, "NEU")]),
        ("B-NEU O I-NEU", [(0, 1, "NEU")]),
        ("", []),
    ],
)
def test_strict_iob2(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert decode_tags(tags.split()) == spans


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_decoded_spans_are_ordered_and_do_not_overlap(tags: list[str]) -> None:
    spans = decode_tags(tags)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
    assert len(spans) == sum(tag.startswith("B-") for tag in tags)


def test_the_auxiliary_tags_are_the_joint_ones_without_polarity() -> None:
    assert [ASPECT_TAGS[ASPECT_OF_TAG[TAG_INDEX[tag]]] for tag in TAGS] == [tag[0] for tag in TAGS]


def well_formed(path: tuple[int, ...]) -> bool:
    """I-x only after B-x or I-x, said with strings."""
    tags = ["O", *(TAGS[index] for index in path)]
    return all(not now.startswith("I") or before[1:] == now[1:] for before, now in itertools.pairwise(tags))


def all_paths(length: int) -> list[tuple[int, ...]]:
    return [path for path in itertools.product(range(len(TAGS)), repeat=length) if well_formed(path)]


def random_crf() -> TagDecoder:
    decoder = TagDecoder("crf").double()
    torch.nn.init.normal_(decoder.transition_CC)
    torch.nn.init.normal_(decoder.start_C)
    return decoder


@torch.no_grad()
def path_score(decoder: TagDecoder, logits_TC: torch.Tensor, path: tuple[int, ...]) -> float:
    score = sum(float(logits_TC[t, tag]) for t, tag in enumerate(path))
    if decoder.kind == "crf":
        score += float(decoder.start_C[path[0]])
        score += sum(float(decoder.transition_CC[i, j]) for i, j in itertools.pairwise(path))
    return score


@pytest.mark.parametrize("kind", ["viterbi", "crf"])
def test_viterbi_finds_the_best_well_formed_path(kind: str) -> None:
    decoder = random_crf() if kind == "crf" else TagDecoder("viterbi")
    lengths = (1, 2, 3, 4)
    logits_BTC = 2 * torch.randn(16, 4, len(TAGS), dtype=torch.float64)
    length_B = [lengths[b % 4] for b in range(16)]
    mask_BT = torch.arange(4) < torch.tensor(length_B)[:, None]
    found = decoder.decode(logits_BTC, mask_BT)
    n_differ_from_argmax = 0
    for b, length in enumerate(length_B):
        best = max(all_paths(length), key=lambda path: path_score(decoder, logits_BTC[b], path))
        assert found[b] == decode_tags([TAGS[index] for index in best])
        n_differ_from_argmax += best != tuple(logits_BTC[b, :length].argmax(dim=1).tolist())
    assert n_differ_from_argmax > 4  # else the test would say nothing of the constraint


def test_crf_likelihood_is_that_of_enumeration() -> None:
    decoder = random_crf()
    logits_BTC = torch.randn(3, 4, len(TAGS), dtype=torch.float64)
    golds = ["B-POS I-POS O B-NEG", "O B-NEU", "B-NEG"]
    tags_BT = torch.full((3, 4), IGNORED)
    expected, words = 0.0, 0
    for b, gold in enumerate(golds):
        path = tuple(TAG_INDEX[tag] for tag in gold.split())
        tags_BT[b, : len(path)] = torch.tensor(path)
        scores = [path_score(decoder, logits_BTC[b], other) for other in all_paths(len(path))]
        highest = max(scores)
        log_partition = highest + math.log(sum(math.exp(score - highest) for score in scores))
        expected += log_partition - path_score(decoder, logits_BTC[b], path)
        words += len(path)
    # the decoder computes in float32
    assert decoder.loss(logits_BTC, tags_BT).item() == pytest.approx(expected / words, rel=1e-5)


def test_crf_learns_its_transitions() -> None:
    decoder = TagDecoder("crf")
    tags_BT = torch.tensor([[TAG_INDEX["B-POS"], TAG_INDEX["I-POS"], TAG_INDEX["O"]]])
    decoder.loss(torch.zeros(1, 3, len(TAGS)), tags_BT).backward()
    for parameter in decoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert decoder.transition_CC.grad[TAG_INDEX["B-POS"], TAG_INDEX["I-POS"]] < 0  # the step raises what was seen


def test_only_i_tags_are_restricted() -> None:
    allowed = allowed_transitions()
    for i, before in enumerate([*TAGS, "start"]):
        for j, tag in enumerate(TAGS):
            follows = before[1:] == tag[1:] if tag.startswith("I") else True
            assert bool(allowed[i, j]) == follows, (before, tag)


@pytest.mark.parametrize("kind", ["argmax", "viterbi", "crf"])
def test_what_lies_beyond_the_words_changes_neither_loss_nor_spans(kind: str) -> None:
    decoder = random_crf() if kind == "crf" else TagDecoder(kind)
    logits_BTC = torch.randn(2, 5, len(TAGS))
    tags_BT = torch.tensor([[1, 2, 0, IGNORED, IGNORED], [0, 3, 4, 4, 0]])
    mask_BT = tags_BT != IGNORED
    noisy_BTC = torch.where(mask_BT[..., None], logits_BTC, 100 * torch.randn(2, 5, len(TAGS)))
    assert decoder.loss(noisy_BTC, tags_BT) == decoder.loss(logits_BTC, tags_BT)
    assert decoder.decode(noisy_BTC, mask_BT) == decoder.decode(logits_BTC, mask_BT)


def test_argmax_reads_tags_one_by_one() -> None:
    logits_BTC = torch.zeros(1, 3, len(TAGS))
    for t, tag in enumerate(("I-NEG", "B-POS", "I-POS")):
        logits_BTC[0, t, TAG_INDEX[tag]] = 1.0
    assert TagDecoder("argmax").decode(logits_BTC, torch.ones(1, 3, dtype=torch.bool)) == [[(1, 3, "POS")]]


def test_polarity_of_a_given_span_by_hand() -> None:
    probs_TC = torch.full((3, len(TAGS)), 0.01)
    for t, tag, p in (
        (1, "B-POS", 0.4), (1, "B-NEU", 0.2), (1, "B-NEG", 0.1),
        (2, "I-POS", 0.1), (2, "I-NEU", 0.5), (2, "I-NEG", 0.2),
        (2, "B-POS", 0.9),
    ):  # fmt: skip
        probs_TC[t, TAG_INDEX[tag]] = p
    products = torch.tensor([0.4 * 0.1, 0.2 * 0.5, 0.1 * 0.2])
    torch.testing.assert_close(polarity_probabilities(probs_TC.log()[None], [(0, 1, 3)])[0], products / products.sum())
    one_word = torch.tensor([0.4, 0.2, 0.1]) / 0.7
    torch.testing.assert_close(polarity_probabilities(probs_TC.log()[None], [(0, 1, 2)])[0], one_word)
