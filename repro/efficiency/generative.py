"""The generative family, for its cost alone: BART that writes each aspect as start, end and polarity.

After VLP-MABSA (Ling, Yu and Xia, ACL 2022) and AoM (Zhou et al., Findings of ACL 2023), whose figures come from BART
and 36 region features. Simplified, in its favour: the detector that yields the regions is left out, and so are the
tokens that mark a part's begin, AoM's graph convolution and its attention per aspect; keys and values are kept from
step to step; every beam has the length of two aspects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BartConfig, BartModel, DynamicCache, EncoderDecoderCache

from clamp.data.collate import Batch

_CLASSES = 4  # the end, and the three polarities


@dataclass(frozen=True)
class GenerativeSize:
    """BART's architecture, region features an image and their width, beams, and steps of a target."""

    bart: dict[str, Any]
    regions: int
    region_width: int
    beams: int
    target: int  # start, end and polarity of each of two aspects (1.5 to 2.1 on Twitter-2015 and Twitter-2017), the end


class Generative(nn.Module):
    """Regions and words through BART's encoder; its decoder points at words or classes, by beam search."""

    def __init__(self, size: GenerativeSize) -> None:
        super().__init__()
        self.size = size
        self.bart = BartModel(BartConfig(**size.bart))
        width = size.bart["d_model"]
        self.project_regions = nn.Linear(size.region_width, width)
        self.point = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.classes = nn.Embedding(_CLASSES, width)

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Encoder states (B, N, D), what can be pointed at (B, P, D), and what each of that is read as (B, P, D)."""
        words_BSD = self.bart.shared(batch.token_ids_BS)
        count, _, width = words_BSD.shape
        regions_BRE = words_BSD.new_zeros(count, self.size.regions, self.size.region_width)
        inputs_BND = torch.cat([self.project_regions(regions_BRE), words_BSD], dim=1)
        states_BND = self.bart.encoder(inputs_embeds=inputs_BND).last_hidden_state
        classes_BCD = self.classes.weight.expand(count, _CLASSES, width)
        pointed_BSD = (self.point(states_BND[:, self.size.regions :]) + words_BSD) / 2
        return states_BND, torch.cat([classes_BCD, pointed_BSD], dim=1), torch.cat([classes_BCD, words_BSD], dim=1)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """The best sequence of each tweet, (B, target) positions among the classes and words."""
        states_BND, choices_BPD, read_as_BPD = self._encode(batch)
        count, beams, places = len(states_BND), self.size.beams, choices_BPD.shape[1]
        states, choices, read_as = (x.repeat_interleave(beams, dim=0) for x in (states_BND, choices_BPD, read_as_BPD))
        config = self.bart.config
        cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        score_BK = states_BND.new_full((count, beams), -torch.inf)
        score_BK[:, 0] = 0.0  # all beams start alike
        first_beam_B1 = beams * torch.arange(count, device=score_BK.device)[:, None]
        chosen = score_BK.new_zeros(count * beams, 0, dtype=torch.int64)
        latest = read_as[:, :1]
        for _ in range(self.size.target):
            hidden = self.bart.decoder(
                inputs_embeds=latest, encoder_hidden_states=states, past_key_values=cache, use_cache=True
            ).last_hidden_state
            step = torch.log_softmax((hidden @ choices.mT).float(), dim=-1).view(count, beams, places)
            score_BK, best_BK = (score_BK[..., None] + step).flatten(1).topk(beams, dim=1)
            beam = (first_beam_B1 + best_BK // places).flatten()
            place = (best_BK % places).flatten()
            cache.self_attention_cache.reorder_cache(beam)  # the encoder's states are the same in every beam
            chosen = torch.cat([chosen[beam], place[:, None]], dim=1)
            latest = read_as[torch.arange(len(place), device=place.device), place][:, None]
        return chosen.view(count, beams, -1)[:, 0]

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of a target, made up of the batch's tags, under teacher forcing."""
        states_BND, choices_BPD, read_as_BPD = self._encode(batch)
        target_BL = (batch.tags_BT[:, : self.size.target] % _CLASSES).long()
        shifted_BL = F.pad(target_BL[:, :-1], (1, 0))
        inputs_BLD = read_as_BPD.gather(1, shifted_BL[..., None].expand(-1, -1, read_as_BPD.shape[-1]))
        hidden_BLD = self.bart.decoder(
            inputs_embeds=inputs_BLD, encoder_hidden_states=states_BND, use_cache=False
        ).last_hidden_state
        logits_BLP = hidden_BLD @ choices_BPD.mT
        return F.cross_entropy(logits_BLP.flatten(0, 1).float(), target_BL.flatten())
