"""The operators in plain PyTorch: the definitions that every other implementation is tested against.

Written to be read, not to be fast. All compute in float32, or in the inputs' type where that is wider, so that float64
inputs give float64 results and pass gradcheck. Shapes and options are those of the public functions; the docstrings
here add the equations.
"""

from __future__ import annotations

import math

import torch

from kernels import philox
from kernels.dispatch import compute_dtype


def cross_attention(
    q_BHQD: torch.Tensor,
    k_BHKD: torch.Tensor,
    v_BHKD: torch.Tensor,
    key_mask_BK: torch.Tensor | None = None,
    key_bias_BK: torch.Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | torch.Tensor = 0,
    return_mass: bool = False,
    query_mask_BQ: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention with the mass that each key receives.

    With V the set of a sample's keys that are unmasked and whose bias is not -inf, W its valid queries, keep from
    `philox.attention_keep_mask` and c from `philox.keep_scale`:

        S_hij  = scale * q_hi . k_hj + bias_j
        P_hij  = exp S_hij / sum_{l in V} exp S_hil  for j in V,  0 otherwise
        out_hi = c * sum_j keep_hij P_hij v_hj
        mass_j = 1 / (H |W|) * sum_h sum_{i in W} P_hij,  0 where W is empty
    """
    batch, heads, queries, width = q_BHQD.shape
    keys = k_BHKD.shape[2]
    dtype = compute_dtype(q_BHQD)
    valid_BK = torch.ones(batch, keys, dtype=torch.bool, device=q_BHQD.device)
    bias_BK = torch.zeros(batch, keys, dtype=dtype, device=q_BHQD.device)
    if key_mask_BK is not None:
        valid_BK = valid_BK & key_mask_BK
    if key_bias_BK is not None:
        valid_BK = valid_BK & (key_bias_BK != -math.inf)
        bias_BK = key_bias_BK.to(dtype).masked_fill(~valid_BK, 0)

    masked_BHKD = ~valid_BK[:, None, :, None]
    k_BHKD = k_BHKD.to(dtype).masked_fill(masked_BHKD, 0)
    v_BHKD = v_BHKD.to(dtype).masked_fill(masked_BHKD, 0)
    logits_BHQK = torch.einsum("bhqd,bhkd->bhqk", q_BHQD.to(dtype), k_BHKD)
    logits_BHQK = (1 / math.sqrt(width) if scale is None else scale) * logits_BHQK + bias_BK[:, None, None, :]

    masked_BHQK = ~valid_BK[:, None, None, :]
    # The lowest finite number, not -inf: rows without a valid key keep a finite softmax, which the second fill drops.
    probs_BHQK = logits_BHQK.masked_fill(masked_BHQK, torch.finfo(dtype).min).softmax(dim=-1)
    probs_BHQK = probs_BHQK.masked_fill(masked_BHQK, 0)

    kept_BHQK = probs_BHQK
    if dropout_p != 0:
        keep_BHQK = philox.attention_keep_mask(probs_BHQK.shape, dropout_p, seed, q_BHQD.device)
        kept_BHQK = probs_BHQK * keep_BHQK * philox.keep_scale(dropout_p)
    out_BHQD = torch.einsum("bhqk,bhkd->bhqd", kept_BHQK, v_BHKD).to(q_BHQD.dtype)
    if not return_mass:
        return out_BHQD

    if query_mask_BQ is None:
        query_mask_BQ = torch.ones(batch, queries, dtype=torch.bool, device=q_BHQD.device)
    counted_BHQK = probs_BHQK * query_mask_BQ[:, None, :, None]
    return out_BHQD, counted_BHQK.sum(dim=(1, 2)) / (heads * query_mask_BQ.sum(dim=1, keepdim=True)).clamp(min=1)


def gated_residual_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight_D: torch.Tensor,
    bias_D: torch.Tensor,
    eps: float = 1e-5,
    dropout_p: float = 0.0,
    seed: int | torch.Tensor = 0,
) -> torch.Tensor:
    """Gate, dropout, residual and LayerNorm of rows of width D.

    With keep from `philox.row_keep_mask` over x seen as rows of D columns and c from `philox.keep_scale`:

        y   = residual + c * keep * sigmoid(gate_logits) * x        the sigmoid is 1 without gate_logits
        out = (y - mean(y)) / sqrt(var(y) + eps) * weight + bias    mean and (biased) variance over a row
    """
    dtype = compute_dtype(x)
    y = x.to(dtype)
    if gate_logits is not None:
        y = y * torch.sigmoid(gate_logits.to(dtype))
    if dropout_p != 0:
        keep = philox.row_keep_mask(x.numel() // x.shape[-1], x.shape[-1], dropout_p, seed, x.device)
        y = y * keep.view(x.shape) * philox.keep_scale(dropout_p)
    y = residual.to(dtype) + y
    centred = y - y.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return (centred * torch.rsqrt(variance + eps) * weight_D + bias_D).to(x.dtype)


def info_nce(
    a_ND: torch.Tensor, b_ND: torch.Tensor, scale: float | torch.Tensor, row_mask_N: torch.Tensor | None = None
) -> torch.Tensor:
    """Symmetric InfoNCE over the set V of valid pairs.

        S_ij = scale * a_i . b_j
        loss = 1 / |V| * sum_{i in V} ( (log sum_{j in V} exp S_ij + log sum_{j in V} exp S_ji) / 2 - S_ii )

    and 0 for |V| < 2. The two terms are CLIP's image-to-text and text-to-image cross-entropies (Radford et al., 2021,
    arXiv 2103.00020, figure 3).
    """
    mask_GN = None if row_mask_N is None else row_mask_N[None]
    return grouped_info_nce(a_ND[None], b_ND[None], scale, mask_GN)


def grouped_info_nce(
    a_GND: torch.Tensor,
    b_GND: torch.Tensor,
    scale: float | torch.Tensor,
    mask_GN: torch.Tensor | None = None,
    weights_GN: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean of one weighted symmetric InfoNCE a group.

    With V_g the valid rows of group g and A the groups with |V_g| >= 2 and sum_{i in V_g} weights_gi > 0:

        S_gij = scale * a_gi . b_gj
        w_gi  = weights_gi / sum_{j in V_g} weights_gj
        L_g   = sum_{i in V_g} w_gi ( (log sum_{j in V_g} exp S_gij + log sum_{j in V_g} exp S_gji) / 2 - S_gii )
        loss  = 1 / |A| * sum_{g in A} L_g,  0 where A is empty
    """
    dtype = compute_dtype(a_GND)
    if isinstance(scale, torch.Tensor):
        scale = scale.reshape(())
    if mask_GN is None:
        mask_GN = torch.ones(a_GND.shape[:2], dtype=torch.bool, device=a_GND.device)
    if weights_GN is None:
        weights_GN = torch.ones(a_GND.shape[:2], dtype=dtype, device=a_GND.device)

    a_GND = a_GND.to(dtype).masked_fill(~mask_GN[..., None], 0)
    b_GND = b_GND.to(dtype).masked_fill(~mask_GN[..., None], 0)
    logits_GNN = scale * torch.einsum("gid,gjd->gij", a_GND, b_GND)
    # A very low but finite number takes dropped pairs out of every sum and keeps their own rows, which weigh 0, finite.
    pair_GNN = mask_GN[:, :, None] & mask_GN[:, None, :]
    logits_GNN = logits_GNN.masked_fill(~pair_GNN, torch.finfo(dtype).min / 2)
    row_GN, column_GN = logits_GNN.logsumexp(dim=2), logits_GNN.logsumexp(dim=1)
    loss_GN = (row_GN + column_GN) / 2 - logits_GNN.diagonal(dim1=1, dim2=2)

    weights_GN = weights_GN.detach().to(dtype).masked_fill(~mask_GN, 0)
    total_G1 = weights_GN.sum(dim=1, keepdim=True)
    active_G = (mask_GN.sum(dim=1) >= 2) & (total_G1[:, 0] > 0)
    loss_G = (weights_GN / total_G1.masked_fill(~active_G[:, None], 1) * loss_GN).sum(dim=1)
    return (loss_G * active_G).sum() / active_G.sum().clamp(min=1)
