"""Aspect spans as IOB2 tags that carry a polarity, and the three ways to read them back: argmax, Viterbi, CRF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clamp.data.schema import POLARITIES, Aspect

TAGS: tuple[str, ...] = ("O", *(f"{prefix}-{polarity}" for polarity in POLARITIES for prefix in "BI"))
TAG_INDEX = {tag: index for index, tag in enumerate(TAGS)}
ASPECT_TAGS: tuple[str, ...] = ("O", "B", "I")
IGNORED = -100  # label of padding, as in torch's cross_entropy
# the auxiliary head's label of each joint tag
ASPECT_OF_TAG = tuple(ASPECT_TAGS.index(tag[0]) for tag in TAGS)

Span = tuple[int, int, str]
_FORBIDDEN = -1e4  # finite, so that a path of forbidden steps still has a score; far below any real logit


def encode_aspects(aspects: Iterable[Aspect], n_words: int) -> list[int]:
    """Tag indices (n_words,) of non-overlapping aspects; what lies beyond n_words (truncation) is left out."""
    tags = [TAG_INDEX["O"]] * n_words
    for aspect in aspects:
        for word in range(aspect.start, min(aspect.end, n_words)):
            tags[word] = TAG_INDEX[f"{'B' if word == aspect.start else 'I'}-{aspect.polarity}"]
    return tags


def decode_tags(tags: Sequence[str]) -> list[Span]:
    """Strict IOB2: B-x opens a span, I-x of the same polarity continues it; an I- that continues nothing opens none."""
    spans: list[Span] = []
    start, polarity = -1, ""
    for word, tag in enumerate([*tags, "O"]):
        if start >= 0 and tag != f"I-{polarity}":
            spans.append((start, word, polarity))
            start = -1
        if tag.startswith("B-"):
            start, polarity = word, tag[2:]
    return spans


def allowed_transitions() -> Tensor:
    """(C + 1, C) bool: may tag j follow tag i? Row C is the tweet's start. Only I-x is restricted: to B-x and I-x."""
    allowed = torch.ones(len(TAGS) + 1, len(TAGS), dtype=torch.bool)
    for j, tag in enumerate(TAGS):
        if tag.startswith("I-"):
            allowed[:, j] = False
            allowed[TAG_INDEX[f"B-{tag[2:]}"], j] = True
            allowed[j, j] = True
    return allowed


def viterbi(logits_BTC: Tensor, mask_BT: Tensor, transitions_CC: Tensor, start_C: Tensor) -> Tensor:
    """The best-scoring tag path (B, T) int64; positions outside mask_BT (valid words first) are O."""
    B, T, C = logits_BTC.shape
    score_BC = start_C + logits_BTC[:, 0]
    back: list[Tensor] = []
    for t in range(1, T):
        step_BCC = score_BC[:, :, None] + transitions_CC
        best_BC, from_BC = step_BCC.max(dim=1)
        valid_B1 = mask_BT[:, t, None]
        stay_BC = torch.arange(C, device=logits_BTC.device).expand(B, C)
        score_BC = torch.where(valid_B1, best_BC + logits_BTC[:, t], score_BC)
        back.append(torch.where(valid_B1, from_BC, stay_BC))
    path = [score_BC.argmax(dim=1)]
    for from_BC in reversed(back):
        path.append(from_BC.gather(1, path[-1][:, None])[:, 0])
    tags_BT = torch.stack(path[::-1], dim=1)
    return tags_BT.masked_fill(~mask_BT, TAG_INDEX["O"])


class TagDecoder(nn.Module):
    """Tag loss and decoding over the joint tags.

    "argmax": independent tags. "viterbi": the same loss, decoded over well-formed paths only. "crf": a linear-chain
    CRF (Lafferty et al., 2001) with the same restriction, trained by its exact likelihood.
    """

    forbidden_CC: Tensor
    forbidden_start_C: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        allowed = allowed_transitions()
        self.register_buffer("forbidden_CC", torch.where(allowed[:-1], 0.0, _FORBIDDEN), persistent=False)
        self.register_buffer("forbidden_start_C", torch.where(allowed[-1], 0.0, _FORBIDDEN), persistent=False)
        if kind == "crf":
            self.transition_CC = nn.Parameter(torch.zeros(len(TAGS), len(TAGS)))
            self.start_C = nn.Parameter(torch.zeros(len(TAGS)))

    def _scores(self) -> tuple[Tensor, Tensor]:
        if self.kind == "crf":
            return self.transition_CC + self.forbidden_CC, self.start_C + self.forbidden_start_C
        return self.forbidden_CC, self.forbidden_start_C

    def loss(self, logits_BTC: Tensor, tags_BT: Tensor) -> Tensor:
        """Mean negative log-likelihood per valid word; tags_BT holds IGNORED outside the words."""
        if self.kind != "crf":
            return F.cross_entropy(logits_BTC.flatten(0, 1).float(), tags_BT.flatten(), ignore_index=IGNORED)
        mask_BT = tags_BT != IGNORED
        logits_BTC = logits_BTC.float()
        gold_B = self._path_score(logits_BTC, tags_BT.clamp(min=0), mask_BT)
        return (self._log_partition(logits_BTC, mask_BT) - gold_B).sum() / mask_BT.sum()

    def _path_score(self, logits_BTC: Tensor, tags_BT: Tensor, mask_BT: Tensor) -> Tensor:
        transitions_CC, start_C = self._scores()
        emitted_BT = logits_BTC.gather(2, tags_BT[..., None])[..., 0]
        moved_BT = transitions_CC[tags_BT[:, :-1], tags_BT[:, 1:]]
        return (
            start_C[tags_BT[:, 0]]
            + emitted_BT.masked_fill(~mask_BT, 0.0).sum(dim=1)
            + moved_BT.masked_fill(~mask_BT[:, 1:], 0.0).sum(dim=1)
        )

    def _log_partition(self, logits_BTC: Tensor, mask_BT: Tensor) -> Tensor:
        transitions_CC, start_C = self._scores()
        alpha_BC = start_C + logits_BTC[:, 0]
        for t in range(1, logits_BTC.shape[1]):
            next_BC = torch.logsumexp(alpha_BC[:, :, None] + transitions_CC, dim=1) + logits_BTC[:, t]
            alpha_BC = torch.where(mask_BT[:, t, None], next_BC, alpha_BC)
        return torch.logsumexp(alpha_BC, dim=1)

    @torch.no_grad()
    def decode(self, logits_BTC: Tensor, mask_BT: Tensor) -> list[list[Span]]:
        """The predicted spans of every tweet, from word-level logits."""
        if self.kind == "argmax":
            tags_BT = logits_BTC.argmax(dim=-1).masked_fill(~mask_BT, TAG_INDEX["O"])
        else:
            tags_BT = viterbi(logits_BTC.float(), mask_BT, *self._scores())
        return [decode_tags([TAGS[index] for index in row]) for row in tags_BT.tolist()]


class AspectHead(nn.Linear):
    """The auxiliary task of tagging aspects without their polarity: states (..., D) -> logits over ASPECT_TAGS."""

    aspect_of_tag: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width, len(ASPECT_TAGS))
        self.register_buffer("aspect_of_tag", torch.tensor(ASPECT_OF_TAG), persistent=False)

    def loss(self, text_BTD: Tensor, tags_BT: Tensor) -> Tensor:
        """Mean cross-entropy per word; tags_BT holds joint tags, and IGNORED outside the words."""
        aspect_BT = torch.where(tags_BT == IGNORED, IGNORED, self.aspect_of_tag[tags_BT.clamp(min=0)])
        logits_BT3 = self(text_BTD)
        return F.cross_entropy(logits_BT3.flatten(0, 1).float(), aspect_BT.flatten(), ignore_index=IGNORED)


def polarity_probabilities(log_probs_BTC: Tensor, spans_N3: Sequence[tuple[int, int, int]]) -> Tensor:
    """(N, 3) p(polarity) of spans (tweet, start, end): the rule of MASC, here and for aspects that a model found.

    It is the product of a span's joint tag probabilities, B- of a polarity and then I-, renormalised over POLARITIES.
    """
    place_N3 = torch.tensor(spans_N3, dtype=torch.int64, device=log_probs_BTC.device).reshape(-1, 3)
    tweet_N, start_N, end_N = place_N3.unbind(dim=1)
    begins, continues = ([TAG_INDEX[f"{prefix}-{polarity}"] for polarity in POLARITIES] for prefix in "BI")
    later_N3 = log_probs_BTC.new_zeros(len(place_N3), len(POLARITIES))
    for step in range(1, max((end - start for _, start, end in spans_N3), default=1)):
        word_N = torch.minimum(start_N + step, end_N - 1)
        log_probs_N3 = log_probs_BTC[tweet_N, word_N][:, continues]
        later_N3 = later_N3 + log_probs_N3.masked_fill((start_N + step >= end_N)[:, None], 0.0)
    return torch.softmax(log_probs_BTC[tweet_N, start_N][:, begins] + later_N3, dim=1)
