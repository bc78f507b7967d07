r"""What the residual stream already says: the model's own output layer, applied before the end.

The stream x after any block has the shape of the stream after the last, so the last norm and W_vocab can read it
(https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens). And since the last stream is a
sum, of the embeddings and of what every head and every feed-forward net has added, so is a logit:

$$x_L = e + \sum_{\ell}\Big(\sum_h \mathrm{head}_{\ell h} + \mathrm{ff}_\ell\Big), \qquad
  \mathrm{logit}_t = w_t \cdot \mathrm{norm}(x_L)$$

The norm divides by one number per position; with that number held fixed it is linear, and each part has its share.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.interpret.capture import capture
from llmbook.interpret.heads import head_outputs
from llmbook.model import DecoderLM, evaluating
from llmbook.model.backbone import vocab_logits
from llmbook.model.parts import plain_weight


def read_out(model: DecoderLM, stream: Float[Tensor, "*P C"]) -> Float[Tensor, "*P V"]:
    """The logits the model would give if its stream were this after the last block."""
    return vocab_logits(model, model.backbone.final_norm(stream))


def logit_lens(model: DecoderLM, input_ids: Int[Tensor, "B T"], **inputs) -> Float[Tensor, "L1 B T V"]:
    """The logits read from the embeddings and after each of the L blocks; the last are the model's own.

    ``inputs`` are other arguments of the model, such as ``attention_mask``.
    """
    with evaluating(model):
        hidden = model(input_ids, need_hidden=True, **inputs).hidden_states
        return torch.stack([read_out(model, stream) for stream in hidden])


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A logit (or the difference of two) as a sum; every entry is in the logit's unit.

    Attributes:
        embeddings: [B], of the token and position at the place itself.
        heads: [L, H, B]. attention_bias: [L, B], which belongs to no head.
        feed_forward: [L, B].
        norm_bias: [B], of the last norm.
    """

    embeddings: Tensor
    heads: Tensor
    attention_bias: Tensor
    feed_forward: Tensor
    norm_bias: Tensor

    @property
    def total(self) -> Tensor:
        """[B]: the sum of all parts, which is the logit."""
        by_layer = self.heads.sum((0, 1)) + self.attention_bias.sum(0) + self.feed_forward.sum(0)
        return self.embeddings + by_layer + self.norm_bias


def logit_attribution(
    model: DecoderLM,
    input_ids: Int[Tensor, "B T"],
    target: Int[Tensor, "B"],
    *,
    against: Int[Tensor, "B"] | None = None,
    position: int = -1,
) -> Attribution:
    """Which parts speak for ``target`` at ``position``: direct logit attribution.

    Args:
        target: the token whose logit is divided up, one for each row.
        against: another token, whose logit is subtracted; what speaks for all tokens alike then cancels.

    Raises:
        ValueError: parts are normalised after they have been computed, or the logit is bounded, so that it is no sum of
            what they say; a projection has been adapted or quantised.
    """
    if model.config.norm_position == "post":
        raise ValueError("in a post-norm model every block normalises the stream: it is not a sum of parts")
    if model.config.norm_position != "pre":
        raise ValueError(
            f"norm_position={model.config.norm_position!r} normalises what heads say together: it is no sum over heads"
        )
    if model.config.logit_cap is not None:
        raise ValueError(f"logit_cap={model.config.logit_cap} bends every logit: it is not a sum of parts")
    names = ["backbone.embeddings", "backbone.blocks.*.attention", "backbone.blocks.*.feed_forward"]
    with evaluating(model):
        with capture(model, [*names, "backbone.blocks.*.attention.o_proj.input"]) as states:
            stream = model(input_ids, need_hidden=True).hidden_states[-1][:, position]  # [B, C]
        w_vocab = plain_weight(model.lm_head)  # [V, C]
        direction = w_vocab[target]  # [B, C]
        if against is not None:
            direction = direction - w_vocab[against]
        direction = direction * model.config.logit_scale
        share, norm_bias = _linear_norm(model.backbone.final_norm, stream)

        def speaks(part: Tensor) -> Tensor:
            return (share(part) * direction).sum(-1)

        heads, biases, feed_forward = [], [], []
        for i, block in enumerate(model.backbone.blocks):
            mixed = states[f"backbone.blocks.{i}.attention.o_proj.input"][:, position]
            parts = head_outputs(block.attention, mixed)  # [B, H, C]
            whole = states[f"backbone.blocks.{i}.attention"][:, position]
            heads.append(torch.stack([speaks(part) for part in parts.unbind(1)]))
            biases.append(speaks(whole - parts.sum(1)))
            feed_forward.append(speaks(states[f"backbone.blocks.{i}.feed_forward"][:, position]))
        return Attribution(
            embeddings=speaks(states["backbone.embeddings"][:, position]),
            heads=torch.stack(heads),
            attention_bias=torch.stack(biases),
            feed_forward=torch.stack(feed_forward),
            norm_bias=(norm_bias * direction).sum(-1),
        )


def _linear_norm(norm: nn.Module, stream: Float[Tensor, "B C"]):
    """The norm as it acts at ``stream``: a linear function of its parts, and what is added to their sum."""
    centred = isinstance(norm, nn.LayerNorm)
    middle = stream - stream.mean(-1, keepdim=True) if centred else stream
    gain = getattr(norm, "gain", norm.weight)
    scale = torch.rsqrt(middle.square().mean(-1, keepdim=True) + norm.eps)  # [B, 1]

    def share(part: Tensor) -> Tensor:
        part = part - part.mean(-1, keepdim=True) if centred else part
        return part * scale * gain

    bias = getattr(norm, "bias", None)
    return share, torch.zeros_like(stream) if bias is None else bias.expand_as(stream)
