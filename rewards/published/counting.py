"""Counts objects from a detector's boxes and their probabilities; differentiable."""

import math

import numpy as np
import torch
from torch import Tensor

SAME = 0.5
"""IoU at which the soft step of `sameness` reaches ½: two boxes with it count half as the same object."""
SAME_WIDTH = 0.05
"""Width of that soft step, in IoU."""
MOST_BOXES = 100
"""Number of boxes that are counted, those with the highest probability. Pairs of all 576 boxes of OWL-ViT would take 30
times the memory."""
NODES, NODE_WEIGHTS = (values.tolist() for values in np.polynomial.legendre.leggauss(16))
"""Gauss-Legendre quadrature on [-1, 1]: exact for up to 32 copies of a box, within 1e-4 for each box if boxes overlap
partly."""


def soft_threshold(log_odds: Tensor, threshold: float, temperature: float) -> Tensor:
    """The weight in (0, 1) of a box as a find: σ((log-odds − log-odds of the threshold) / temperature), any shape.

    The weight is ½ at the threshold. In log-odds, probabilities of 0.001, 0.01 and 0.1 are about equally far apart, so
    a box far below the threshold has a useful gradient. At threshold ½ and temperature 1 the weight is the probability.
    """
    return torch.sigmoid((log_odds - math.log(threshold / (1 - threshold))) / temperature)


def overlaps(boxes: Tensor) -> Tensor:
    """The IoU `[B, N, N]` of all pairs of boxes `[B, N, 4]` (centre x, centre y, width, height)."""
    centre, size = boxes[..., :2], boxes[..., 2:].clamp(min=0)
    low, high = centre - size / 2, centre + size / 2
    edges = torch.minimum(high[:, :, None], high[:, None]) - torch.maximum(low[:, :, None], low[:, None])
    shared = edges[..., 0].clamp(min=0) * edges[..., 1].clamp(min=0)
    area = size[..., 0] * size[..., 1]
    return shared / (area[:, :, None] + area[:, None] - shared).clamp(min=torch.finfo(boxes.dtype).tiny)


def sameness(overlap: Tensor) -> Tensor:
    """How far two boxes show the same object: a soft step of their IoU in [0, 1], from 0 to 1, ½ at about `SAME`."""
    low, high = (1 / (1 + math.exp((SAME - end) / SAME_WIDTH)) for end in (0, 1))
    return (torch.sigmoid((overlap - SAME) / SAME_WIDTH) - low) / (high - low)


def expected_count(finds: Tensor, boxes: Tensor) -> Tensor:
    """The expected number `[B]` of distinct objects that the boxes show.

    Let box i be a find with probability f_i, independently of the others, and count as its share 1/(1 + Σ_{j≠i} s_ij)
    among the finds j of the same object. s_ij is 1 for the same box, 0 for separate boxes, and a soft step at an IoU of
    ½ between (`sameness`). As 1/(1 + x) = ∫_0^1 t^x dt, the expected sum of the shares is

        Σ_i f_i ∫_0^1 Π_{j≠i} (1 − f_j (1 − t^{s_ij})) dt,

    which is 1 − Π(1 − f) for copies of one box, and Σ f for separate boxes. Dividing by the number of duplicates
    follows Zhang et al. (2018, arXiv 1802.05766). Soft non-maximum suppression (Bodla et al. 2017, arXiv 1704.04503)
    goes through boxes in the order of their scores, so its sum jumps when two boxes change places; this sum has no
    jumps.

    Args:
        finds: f, the probability of each box to be a find, `[B, N]` in [0, 1].
        boxes: `[B, N, 4]`, as for `overlaps`.
    """
    finds, kept = finds.topk(min(MOST_BOXES, finds.shape[1]), dim=1)
    boxes = boxes.gather(1, kept[..., None].expand(-1, -1, 4))
    same = sameness(overlaps(boxes))
    same = same * (1 - torch.eye(same.shape[1], dtype=same.dtype, device=same.device))
    total = torch.zeros_like(finds[:, 0])
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        absent = torch.log1p(-finds[:, None] * (1 - ((node + 1) / 2) ** same)).sum(2)
        total = total + weight / 2 * (finds * absent.exp()).sum(1)
    return total


def soft_maximum(values: Tensor, temperature: float) -> Tensor:
    """The soft maximum τ log mean exp(v/τ) over the last dimension.

    It increases with every value and lies between the smallest and the largest. It is below the largest by at most
    τ ln N: at τ = 0.01, by 0.05 for YOLOS's 100 boxes and by 0.06 for OWL-ViT's 576.
    """
    return temperature * ((values / temperature).logsumexp(-1) - math.log(values.shape[-1]))
