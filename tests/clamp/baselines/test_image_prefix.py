"""The image prefix against self-attention written out in float64."""

from __future__ import annotations

import torch
from builders import batch_of, tiny_config, tiny_model, tweets, without_images

from clamp.baselines import ImagePrefix


@torch.no_grad()
def test_words_attend_to_regions_and_words_in_one_softmax() -> None:
    model = tiny_model(tiny_config(model__architecture="image_prefix", model__dropout=0.0).model)
    assert isinstance(model, ImagePrefix)
    batch = batch_of(model, [*tweets(3), *without_images(tweets(4)[3:])])
    output = model(batch, need_attention=True)
    model.double()
    stage = model.stage
    words_BTD = output.text_BTD.double() + model.segment.weight[1]
    sequence_BND = torch.cat([model.region_norm(output.regions_BRD.double()) + model.segment.weight[0], words_BTD], 1)
    mask_BN = torch.cat([output.region_mask_BR, batch.word_mask_BT], dim=1)
    q_BTD, (k_BND, v_BND) = stage.query(words_BTD), model.key_value(sequence_BND).chunk(2, dim=-1)
    width = q_BTD.shape[-1] // 2
    parts, attention = [], []
    for head in (slice(0, width), slice(width, None)):
        logits_BTN = q_BTD[..., head] @ k_BND[..., head].mT * width**-0.5
        attention.append(logits_BTN.masked_fill(~mask_BN[:, None], -torch.inf).softmax(dim=-1))
        parts.append(attention[-1] @ v_BND[..., head])
    y_BTD = stage.norm_attention(words_BTD + torch.cat(parts, dim=-1) @ stage.out.weight.T)
    x_BTD = stage.norm_ffn(y_BTD + stage.ffn_out(torch.nn.functional.gelu(stage.ffn_in(y_BTD))))
    torch.testing.assert_close(output.tag_logits_BTC.double(), model.tag_head(x_BTD), rtol=1e-4, atol=1e-5)
    (told,) = output.stages
    expected_BTR = (sum(attention) / 2)[..., :64]
    torch.testing.assert_close(told.attention_BTR.double(), expected_BTR, rtol=1e-4, atol=1e-6)
    seen = told.attention_BTR[:3][batch.word_mask_BT[:3]].sum(dim=-1)
    assert ((seen > 0.1) & (seen < 1.0)).all()  # what is missing lies on words
    assert not told.attention_BTR[3].any()
