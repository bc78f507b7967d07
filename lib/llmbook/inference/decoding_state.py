"""What comes next: the one place that knows how a model reads a text that grows.

Sampling, beams and speculation differ in which token they take, not in how they learn what the model expects. All ask
a ``DecodingState``: it holds the texts, reads what is new in them, and knows the cache, the padding and the longest
context.

The rule for long contexts, the same for every position scheme: the model reads the last ``max_seq_len`` tokens,
counted from position 0. Up to there the cache spares reading anything twice. Beyond, every new token moves the
window and with it every position, so nothing in the cache would still be right, and the window is read again.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llmbook.model import Cache, EncoderDecoderLM, KVCache, Output, evaluating

TokenMask = Bool[Tensor, "B T"] | Int[Tensor, "B T"]


class DecodingState:
    """Texts [B, T] that grow together, and what the model expects to follow; to be used under ``evaluating(model)``.

    Args:
        model: a ``DecoderLM``, or a ``ConditionedDecoder`` encoder–decoder.
        input_ids: the texts so far; shorter ones padded on the left, with ``attention_mask`` 0 on the padding.
        max_len: how long the texts may become; None for as long as the model reads at once.
        use_cache: whether to remember what was read. It changes the speed, not the result.
        cache: the memory to use in place of a new ``KVCache``; it may hold the beginning of the texts already. What
            is read again, rewritten or reordered needs one with ``crop`` and ``reorder``; ``generate`` needs neither.

    Attributes:
        ids, mask: the texts as they stand.
        n_passes: how often the model has been called.

    Raises:
        ValueError: a text is empty or holds what is no token, the mask has a hole, the cache does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        input_ids: Int[Tensor, "B T"],
        *,
        attention_mask: TokenMask | None = None,
        max_len: int | None = None,
        use_cache: bool = True,
        cache: Cache | None = None,
    ):
        check_prompt(model, input_ids, attention_mask)
        self.model, self.ids, self.mask, self.n_passes = model, input_ids, attention_mask, 0
        self.limit = model.config.max_seq_len
        self.cache = self._make_cache(max_len) if cache is None and use_cache else cache
        if cache is not None and not use_cache:
            raise ValueError("a cache was given together with use_cache=False: give one of the two")
        if cache is not None and cache.length >= input_ids.shape[1]:
            raise ValueError(
                f"the cache holds {cache.length} positions and the text has {input_ids.shape[1]}: nothing to read"
            )

    def logits(self, n: int = 1) -> Float[Tensor, "B n V"]:
        """What is expected after each of the last ``n`` tokens, reading only what the cache has not seen.

        Raises ValueError if there are not so many.
        """
        length = self.ids.shape[1]
        if not 1 <= n <= length:
            raise ValueError(f"n={n}: a text of {length} tokens has something to follow after 1 to {length} of them")
        if length > self.limit:
            ends = range(length - n + 1, length + 1)
            return torch.stack([self._read(max(0, end - self.limit), end)[:, -1] for end in ends], dim=1)
        if self.cache is None:
            return self._read(0, length)[:, -n:]
        start = min(self.cache.length, length - n)
        if start < self.cache.length:
            self._of_cache("crop")(start)
        return self._read(start, length, self.cache)[:, -n:]

    def append(self, tokens: Int[Tensor, "B n"]) -> None:
        """Write on; the tokens are read when logits are next asked for."""
        self.ids = torch.cat([self.ids, tokens], dim=1)
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(tokens.shape)], dim=1)

    def rewrite(self, ids: Int[Tensor, "B T"]) -> None:
        """Replace the texts by others; what they have in common at the beginning stays read."""
        shorter = min(ids.shape[1], self.ids.shape[1])
        same = (ids[:, :shorter] == self.ids[:, :shorter]).all(0)  # shorter
        common = int(same.long().cumprod(0).sum())
        if self.cache is not None and self.cache.length > common:
            self._of_cache("crop")(common)
        self.ids = self.ids[:, :common]
        if self.mask is not None:
            self.mask = self.mask[:, :common]
        self.append(ids[:, common:])

    def reorder(self, rows: Int[Tensor, "B_new"]) -> None:
        """Let row i go on from what row ``rows[i]`` was; rows may be repeated, and their number may change."""
        if self.cache is not None:
            self._of_cache("reorder")(rows)
        self.ids = self.ids[rows]
        if self.mask is not None:
            self.mask = self.mask[rows]

    def _of_cache(self, method: str) -> Callable:
        """The cache's ``crop`` or ``reorder``. Raises ValueError if it has none: such a cache can only go on."""
        if not hasattr(self.cache, method):
            raise ValueError(
                f"a {type(self.cache).__name__} has no {method}: its texts can be written on, but neither taken back "
                "nor exchanged; give a KVCache, or use_cache=False"
            )
        return getattr(self.cache, method)

    def _read(self, start: int, end: int, cache: Cache | None = None) -> Float[Tensor, "B T V"]:
        self.n_passes += 1
        mask = self.mask
        if mask is not None:  # covers what is in the cache as well
            mask = mask[:, (start if cache is None else 0) : end]
        memory = {} if cache is None else {"cache": cache}  # not every model has one to be asked about
        with torch.inference_mode():  # no gradients, and no book kept for later ones either: quicker
            return self.model(self.ids[:, start:end], attention_mask=mask, **memory).logits

    def _make_cache(self, max_len: int | None) -> KVCache | None:
        batch_size, length = self.ids.shape
        if length > self.limit:
            return None
        weight = next(self.model.parameters())
        max_len = self.limit if max_len is None else min(max_len, self.limit)
        config = self.model.config
        return KVCache(config, batch_size=batch_size, max_len=max_len, device=weight.device, dtype=weight.dtype)


class ConditionedDecoder(nn.Module):
    """An encoder–decoder that has read its source: from here on a language model like any other.

    ``generate(ConditionedDecoder(model, source_ids), start_ids, ...)``, with the start token [B, 1] as the prompt;
    beams and speculation likewise. The source is encoded once, here. ``input_ids`` later may have a multiple of the
    source's rows: each source then serves as many consecutive rows.
    """

    def __init__(
        self, model: EncoderDecoderLM, source_ids: Int[Tensor, "B M"], attention_mask: TokenMask | None = None
    ):
        super().__init__()
        self.model, self.config, self.source_mask = model, model.decoder.config, attention_mask
        with evaluating(model):
            self.memory = model.encode(source_ids, attention_mask)  # [B, M, C]

    def forward(
        self, input_ids: Int[Tensor, "B T"], *, attention_mask: TokenMask | None = None, cache: Cache | None = None
    ) -> Output:
        """The decoder's logits [B, T, V] behind its source. Raises ValueError unless B is a multiple of the sources."""
        times, rest = divmod(len(input_ids), len(self.memory))
        if rest:
            raise ValueError(f"{len(input_ids)} rows cannot be shared among {len(self.memory)} sources")
        source_mask = None if self.source_mask is None else self.source_mask.repeat_interleave(times, dim=0)
        return self.model(
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
            memory=self.memory.repeat_interleave(times, dim=0),
            attention_mask=source_mask,
            cache=cache,
        )


def pad_left(rows: Sequence[Sequence[int]], *, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Rows of unequal length as token numbers [B, T], shorter ones padded on the left with 0, and their mask."""
    longest = max(map(len, rows), default=0)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[i, longest - len(row) :] = True
    return ids.to(device), mask.to(device)


def check_prompt(model: nn.Module, ids: Tensor, mask: Tensor | None = None) -> None:
    """Raise ValueError, naming what is wrong, unless ``model`` can go on from ``ids``."""
    if isinstance(model, EncoderDecoderLM):
        raise ValueError(
            "an encoder–decoder reads its source first: give ConditionedDecoder(model, source_ids) as the model"
        )
    if ids.ndim != 2:
        raise ValueError(f"input_ids has shape {tuple(ids.shape)}: expected [batch, tokens], as torch.tensor([ids])")
    if ids.numel() == 0:
        raise ValueError(
            f"input_ids has shape {tuple(ids.shape)}: an empty prompt predicts nothing; start with one token at "
            "least, such as a line break or the end-of-text token"
        )
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"input_ids is of {ids.dtype}: expected token numbers, of torch.int64 or torch.int32")
    vocab_size = model.config.vocab_size
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if len(outside):
        raise ValueError(
            f"input_ids holds {int(outside[0])}, outside the vocabulary 0…{vocab_size - 1}: "
            "was the text encoded with this model's tokenizer?"
        )
    if mask is None:
        return
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}: must be equal")
    real = mask.bool()
    wrong = ~real[:, -1] | (real[:, :-1] & ~real[:, 1:]).any(1)  # [B]
    if wrong.any():
        row = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"attention_mask row {row} is {mask[row].int().tolist()}: padding must stand on the left and the last "
            "token be real, because that is where the text goes on"
        )
