"""The operators as one commonly writes them in PyTorch, in the inputs' type: what the kernels are to beat."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cross_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    key_mask: torch.Tensor,
    key_bias: torch.Tensor | None = None,
    query_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    return_mass: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Shapes as in `kernels.cross_attention`; the mass is averaged over heads first, which is the cheaper order."""
    logits_BHQK = (q @ k.mT) * q.shape[-1] ** -0.5
    if key_bias is not None:
        logits_BHQK = logits_BHQK + key_bias[:, None, None].to(q.dtype)
    logits_BHQK = logits_BHQK.masked_fill(~key_mask[:, None, None], torch.finfo(q.dtype).min)
    probs_BHQK = logits_BHQK.softmax(dim=-1)
    out_BHQD = F.dropout(probs_BHQK, dropout_p) @ v
    if not return_mass:
        return out_BHQD
    probs_BQK = probs_BHQK.mean(dim=1)
    if query_mask is None:
        return out_BHQD, probs_BQK.float().mean(dim=1)
    share_BQ = query_mask / query_mask.sum(dim=1, keepdim=True).clamp(min=1)
    return out_BHQD, (probs_BQK * share_BQ[..., None].to(q.dtype)).sum(dim=1, dtype=torch.float32)


def gated_residual_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    gate_logits: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float = 1e-5,
    dropout_p: float = 0.0,
) -> torch.Tensor:
    """Shapes as in `kernels.gated_residual_norm`."""
    update = x if gate_logits is None else torch.sigmoid(gate_logits) * x
    return F.layer_norm(residual + F.dropout(update, dropout_p), x.shape[-1:], weight, bias, eps)


def info_nce(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss in open_clip's form (`ClipLoss` of src/open_clip/loss.py): a product for each direction."""
    labels_N = torch.arange(a.shape[0], device=a.device)
    return (F.cross_entropy(scale * a @ b.T, labels_N) + F.cross_entropy(scale * b @ a.T, labels_N)) / 2


def info_nce_one_product(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The same from one matrix of logits, whose transpose is the other direction."""
    labels_N = torch.arange(a.shape[0], device=a.device)
    logits_NN = scale * a @ b.T
    return (F.cross_entropy(logits_NN, labels_N) + F.cross_entropy(logits_NN.T, labels_N)) / 2


def grouped_info_nce(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`kernels.grouped_info_nce` without weights, for groups that all have at least two valid rows."""
    pair_GNN = mask[:, :, None] & mask[:, None, :]
    logits_GNN = (scale * a @ b.mT).masked_fill(~pair_GNN, torch.finfo(a.dtype).min)
    labels_GN = torch.arange(a.shape[1], device=a.device).expand(mask.shape)
    row_GN = F.cross_entropy(logits_GNN.mT, labels_GN, reduction="none")
    column_GN = F.cross_entropy(logits_GNN, labels_GN, reduction="none")
    loss_GN = (row_GN + column_GN).masked_fill(~mask, 0) / 2
    return (loss_GN.float().sum(dim=1) / mask.sum(dim=1)).mean()
