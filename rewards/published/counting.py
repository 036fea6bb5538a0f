"""How many objects there are, from boxes and how surely each holds one; differentiable."""

import math

import numpy as np
import torch
from torch import Tensor

SAME = 0.5
"""Two boxes that overlap by this IoU are half taken for the same object; `SAME_WIDTH` is how soft that step is."""
SAME_WIDTH = 0.05
MOST_BOXES = 100
"""Boxes that are counted: the likeliest ones. Pairs of all of OWL-ViT's 576 would take 30 times the memory."""
NODES, NODE_WEIGHTS = (values.tolist() for values in np.polynomial.legendre.leggauss(16))
"""Gauss-Legendre on [-1, 1]: exact for up to 32 copies of a box, within 1e-4 a box where boxes overlap in part."""


def soft_threshold(log_odds: Tensor, threshold: float, temperature: float) -> Tensor:
    """How surely a box is a find, in (0, 1): σ((log-odds − those of the threshold)/temperature), of any shape.

    ½ at the threshold. In log-odds a probability of 0.001 is as far from 0.01 as that from 0.1, so a box far below the
    threshold still has a gradient to follow. At threshold ½ and temperature 1 it is the probability itself.
    """
    return torch.sigmoid((log_odds - math.log(threshold / (1 - threshold))) / temperature)


def overlaps(boxes: Tensor) -> Tensor:
    """IoU of every two of the boxes (centre x, centre y, width, height): `[B, N, 4]` -> `[B, N, N]`."""
    centre, size = boxes[..., :2], boxes[..., 2:].clamp(min=0)
    low, high = centre - size / 2, centre + size / 2
    edges = torch.minimum(high[:, :, None], high[:, None]) - torch.maximum(low[:, :, None], low[:, None])
    shared = edges[..., 0].clamp(min=0) * edges[..., 1].clamp(min=0)
    area = size[..., 0] * size[..., 1]
    return shared / (area[:, :, None] + area[:, None] - shared).clamp(min=torch.finfo(boxes.dtype).tiny)


def sameness(overlap: Tensor) -> Tensor:
    """How far an IoU in [0, 1] says "the same object": a soft step from exactly 0 to exactly 1, ½ at about `SAME`."""
    low, high = (1 / (1 + math.exp((SAME - end) / SAME_WIDTH)) for end in (0, 1))
    return (torch.sigmoid((overlap - SAME) / SAME_WIDTH) - low) / (high - low)


def expected_count(found: Tensor, boxes: Tensor) -> Tensor:
    """How many objects the boxes show, each object once: `[B, N]` in [0, 1], `[B, N, 4]` -> `[B]`.

    Say that box i is a find with probability f_i, independently, and counts as its share 1/(1 + Σ_{j≠i} s_ij) of the
    finds j that show the same object, s_ij being 1 for the same box, 0 for boxes apart and a soft step at an IoU of ½
    between. As 1/(1 + x) = ∫_0^1 t^x dt, the expected sum of the shares is

        Σ_i f_i ∫_0^1 Π_{j≠i} (1 − f_j (1 − t^{s_ij})) dt:

    1 − Π(1 − f) for copies of one box, Σ f for boxes apart. Dividing by the number of duplicates is Zhang et al.'s
    (2018, arXiv 1802.05766). Soft non-maximum suppression (Bodla et al. 2017, arXiv 1704.04503) goes down the boxes by
    score instead, so its sum jumps where two of them change places; this one has no order and no jumps.
    """
    found, kept = found.topk(min(MOST_BOXES, found.shape[1]), dim=1)
    boxes = boxes.gather(1, kept[..., None].expand(-1, -1, 4))
    same = sameness(overlaps(boxes))
    same = same * (1 - torch.eye(same.shape[1], dtype=same.dtype, device=same.device))
    total = torch.zeros_like(found[:, 0])
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        absent = torch.log1p(-found[:, None] * (1 - ((node + 1) / 2) ** same)).sum(2)
        total = total + weight / 2 * (found * absent.exp()).sum(1)
    return total


def soft_maximum(values: Tensor, temperature: float) -> Tensor:
    """τ log mean exp(v/τ) over the last dimension.

    It rises with every value and never leaves their range; it reads the largest low by at most τ ln N, and at
    τ = 0.01 by 0.05 of YOLOS's 100 boxes, by 0.06 of OWL-ViT's 576.
    """
    return temperature * ((values / temperature).logsumexp(-1) - math.log(values.shape[-1]))
