"""Whether scores put one class above another, wherever a threshold would lie."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def ranking(scores: Float[Tensor, "N"], positive: Bool[Tensor, "N"]) -> float:
    """The share of pairs, a positive and a negative, in which the positive scores higher; a tie counts half.

    It is the area under the ROC curve (https://doi.org/10.1148/radiology.143.1.7063747): 0.5 for scores that know
    nothing, 1 for a perfect order, and the same for every increasing function of the scores. Computed from ranks, in
    N log N steps. It is nan where one class is missing, for then there are no pairs.
    """
    values, place = scores.unique(return_inverse=True)
    counts = torch.bincount(place, minlength=len(values))
    rank = (counts.cumsum(0) - counts).double() + (counts.double() - 1) / 2  # of each value, ties in their middle
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    above = rank[place][positive].sum().item() - n_positive * (n_positive - 1) / 2
    return above / (n_positive * n_negative)
