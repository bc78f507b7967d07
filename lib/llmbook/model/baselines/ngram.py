r"""Counting: how often did this token follow these? Interpolated modified Kneser–Ney smoothing.

The best of the models that only count (Chen & Goodman, https://doi.org/10.1006/csla.1999.0128). With c for counts and
h′ for the context h without its first token,

$$p(w \mid h) = \frac{c(hw) - D(c(hw))}{c(h\,\cdot)} + \gamma(h)\, p(w \mid h')$$

Three ideas. *Discount*: something is taken from every count, D₁, D₂ or D₃ from a count of 1, 2 or more; γ(h) is the
share that was taken. *Interpolate*: that share is given out as the shorter context says, and so down to the uniform
distribution over the vocabulary: nothing is impossible. *Continuation counts*: below the highest order, c(hw) is not
how often hw occurs but after how many different tokens. "Francisco" may be frequent and still follow nothing but "San":
where the context says nothing, it is a bad guess.

The n-grams seen are the nodes of one tree, kept as a sorted array of (parent, token) for each length; a text is read
by n look-ups for all its positions at once. N counts the nodes of one length.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model.backbone import Output
from llmbook.model.baselines.common import BaselineConfig, refuse_padding
from llmbook.model.devices import require_device

Discounts = tuple[float, float, float]
USUAL = (0.5, 1.0, 1.5)  # where a text is too small, or a count too common, to estimate discounts


class NGramLM(nn.Module):
    """p(next token | the last ``order`` − 1 tokens) by counting; made by ``NGramLM.count``.

    It answers like a neural language model, so that the same functions evaluate it and draw from it, but it has no
    parameters and no gradients.
    """

    def __init__(self, levels: list["Level"], *, vocab_size: int):
        super().__init__()
        self.order = len(levels)
        self.config = BaselineConfig(vocab_size=vocab_size, max_seq_len=max(self.order - 1, 1))
        self.levels = nn.ModuleList(levels)

    @classmethod
    def count(
        cls,
        tokens: Sequence[int] | Tensor,
        *,
        order: int,
        vocab_size: int,
        discounts: Sequence[Discounts] | None = None,
    ) -> "NGramLM":
        """Count all n-grams of ``tokens`` up to length ``order``.

        discounts: D₁, D₂, D₃ for each length from 1 to ``order``; estimated from the counts unless given. Raises
        ValueError for a text shorter than ``order`` and for tokens outside the vocabulary.
        """
        ids = torch.as_tensor(tokens, dtype=torch.long)
        device, ids = ids.device, ids.cpu()  # counted on the CPU; the tables then lie where the text lay
        if order < 1:
            raise ValueError(f"order={order}: must be at least 1, which ignores all context")
        if len(ids) < order:
            raise ValueError(f"a text of {len(ids)} tokens has no {order}-gram: give a longer one or a smaller order")
        outside = ids[(ids < 0) | (ids >= vocab_size)]
        if len(outside):
            raise ValueError(f"token {int(outside[0])} is outside the vocabulary (0 to {vocab_size - 1})")
        if discounts is not None and len(discounts) != order:
            raise ValueError(f"{len(discounts)} discounts for order={order}: give one (D1, D2, D3) for each length")
        keys, nodes = _tree(ids, order, vocab_size)
        counts = [_continuation_counts(nodes[k], nodes[k + 1]) for k in range(1, order)] + [nodes[order].bincount()]
        levels = []
        for k in range(order):
            taken = estimate_discounts(counts[k]) if discounts is None else discounts[k]
            n_parents = len(keys[k - 1]) if k else 1
            levels.append(Level(keys[k], counts[k], n_parents=n_parents, vocab_size=vocab_size, discounts=taken))
        return cls(levels, vocab_size=vocab_size).to(device)

    @torch.no_grad()
    def forward(self, input_ids: Int[Tensor, "B T"], *, attention_mask: Tensor | None = None) -> Output:
        """Logits [B, T, V]: the logarithms of the probabilities, which sum to 1. There is no hidden state.

        Raises ValueError for an ``attention_mask``: it reads all.
        """
        refuse_padding(self, attention_mask)
        require_device(self.levels[0].keys, input_ids=input_ids)
        contexts = [context.flatten() for context in self._contexts(input_ids)]
        return Output(logits=self._distribution(contexts).log().unflatten(0, input_ids.shape), last_hidden_state=None)

    @torch.no_grad()
    def next_token_distribution(self, context: Sequence[int] | Int[Tensor, "T"]) -> Float[Tensor, "V"]:
        """The probability of every token after ``context``, which may be empty."""
        device = self.levels[0].keys.device
        ids = torch.as_tensor(context, dtype=torch.long, device=device)[None]  # [1, T]
        contexts = [torch.zeros(1, dtype=torch.long, device=device)]
        contexts += [nodes[:, -1] for nodes in self._contexts(ids)[1:] if ids.shape[1]]
        return self._distribution(contexts)[0]

    @torch.no_grad()
    def token_nll(self, tokens: Sequence[int] | Int[Tensor, "T"]) -> Float[Tensor, "T"]:
        """−log p of every token of a text after all before it, the first from no context, in nats."""
        ids = torch.as_tensor(tokens, dtype=torch.long, device=self.levels[0].keys.device)[None]  # [1, T]
        p = torch.full(ids.shape, 1 / self.config.vocab_size, device=ids.device)
        before = [nodes.roll(1, dims=1) for nodes in self._contexts(ids)]  # what precedes each token
        for k, (level, context) in enumerate(zip(self.levels, before, strict=True)):
            if k:
                context[:, 0] = -1  # nothing precedes the first
            p = p * level.left_over(context) + level.share(level.find(context, ids))
        return -p[0].log()

    def num_parameters(self) -> int:
        """How many numbers were counted and kept: one for each n-gram seen."""
        return sum(len(level.keys) for level in self.levels)

    def _contexts(self, ids: Int[Tensor, "B T"]) -> list[Int[Tensor, "B T"]]:
        """For k = 0 … order−1 the node of the last k tokens at every position, −1 if they were never seen."""
        nodes = [torch.zeros_like(ids)]
        for level in self.levels[:-1]:
            earlier = nodes[-1].roll(1, dims=1)
            if len(nodes) > 1:
                earlier[:, :1] = -1
            nodes.append(level.find(earlier, ids))
        return nodes

    def _distribution(self, contexts: Sequence[Int[Tensor, "P"]]) -> Float[Tensor, "P V"]:
        """From the uniform distribution up, each longer context moves a share to what was seen after it."""
        n_places, vocab_size = len(contexts[0]), self.config.vocab_size
        p = torch.full((n_places, vocab_size), 1 / vocab_size, device=contexts[0].device)
        for level, context in zip(self.levels, contexts, strict=False):
            p *= level.left_over(context)[:, None]
            places, children = level.seen_after(context)
            p[places, level.keys[children] % vocab_size] += level.shares[children]
        return p


class Level(nn.Module):
    """The n-grams of one length: node i extends the node ``keys[i] // V`` of the level before by token ``keys[i] % V``.

    shares [N]: the first term of the formula, (c − D) / c(h·), for each node. gammas: γ(h), for each parent.
    """

    def __init__(
        self, keys: Int[Tensor, "N"], counts: Int[Tensor, "N"], *, n_parents: int, vocab_size: int, discounts: Discounts
    ):
        super().__init__()
        self.vocab_size, self.discounts = vocab_size, tuple(discounts)
        parents = keys // vocab_size
        taken = torch.tensor([0.0, *discounts], dtype=torch.float64)[counts.clamp(max=3)]
        totals = torch.zeros(n_parents, dtype=torch.float64).index_add_(0, parents, counts.double())
        left = torch.zeros(n_parents, dtype=torch.float64).index_add_(0, parents, taken)
        gammas = torch.where(totals > 0, left / totals.clamp(min=1), 1.0)  # a context without successor says nothing
        borders = torch.arange(n_parents + 1) * vocab_size
        self.register_buffer("keys", keys)
        self.register_buffer("shares", ((counts - taken) / totals[parents]).float())
        self.register_buffer("gammas", gammas.float())
        self.register_buffer("first_child", torch.searchsorted(keys, borders))

    def find(self, parent: Int[Tensor, "*P"], token: Int[Tensor, "*P"]) -> Int[Tensor, "*P"]:
        """The node that extends ``parent`` by ``token``, or −1."""
        key = parent * self.vocab_size + token  # below 0, and never found, after a parent that is -1
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == key, place, -1)

    def share(self, node: Int[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        return torch.where(node >= 0, self.shares[node], 0.0)

    def left_over(self, parent: Int[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        return torch.where(parent >= 0, self.gammas[parent], 1.0)

    def seen_after(self, parent: Int[Tensor, "P"]) -> tuple[Int[Tensor, "M"], Int[Tensor, "M"]]:
        """All nodes that extend one of the parents: whose (its place among the P), and which."""
        first, beyond = self.first_child[parent], self.first_child[parent + 1]
        n_children = torch.where(parent >= 0, beyond - first, 0)
        places = torch.arange(len(parent), device=parent.device).repeat_interleave(n_children)
        number = torch.arange(len(places), device=parent.device) - (n_children.cumsum(0) - n_children)[places]
        return places, first[places] + number


def estimate_discounts(counts: Int[Tensor, "N"]) -> Discounts:
    """D₁, D₂, D₃ from how many n-grams occur once, twice, three and four times (Chen & Goodman)."""
    n1, n2, n3, n4 = ((counts == n).sum().item() for n in (1, 2, 3, 4))
    if 0 in (n1, n2, n3):
        return USUAL
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= n for d, n in zip(found, (1, 2, 3), strict=True)) else USUAL


def _tree(ids: Int[Tensor, "T"], order: int, vocab_size: int) -> tuple[list[Tensor], list[Tensor]]:
    """The sorted keys of the k-grams, for each k; and the node of the k-gram at each place, k = 0 being the root."""
    keys, nodes = [], [torch.zeros(len(ids) + 1, dtype=torch.long)]
    for k in range(1, order + 1):
        key, node = torch.unique(nodes[-1][:-1] * vocab_size + ids[k - 1 :], return_inverse=True)
        keys.append(key)
        nodes.append(node)
    return keys, nodes


def _continuation_counts(node: Int[Tensor, "P"], longer: Int[Tensor, "P_longer"]) -> Int[Tensor, "N"]:
    """After how many different tokens each n-gram occurs; the beginning of the text counts as one more."""
    somewhere = torch.empty(int(longer.max()) + 1, dtype=torch.long)
    somewhere[longer] = torch.arange(len(longer))  # one place of each longer n-gram; any will do
    ending = node[1:][somewhere]  # the n-gram it ends with
    counts = ending.bincount(minlength=int(node.max()) + 1)
    counts[node[0]] += 1
    return counts
