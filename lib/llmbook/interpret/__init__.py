"""Looking inside: capture and change what flows, read it early, follow attention, probe states, name heads.

Begin reading with ``capture`` and ``patch`` in capture.py: all the rest is built on them or on the attention weights.
"""

from llmbook.interpret.capture import States, capture, patch, patching_grid
from llmbook.interpret.heads import (
    HeadScores,
    ablation_effect,
    contributions,
    duplicate_token_score,
    head_outputs,
    head_scores,
    induction_score,
    offset_score,
    previous_token_score,
    repeated_tokens,
    without_heads,
)
from llmbook.interpret.lens import Attribution, logit_attribution, logit_lens, read_out
from llmbook.interpret.names import find
from llmbook.interpret.probe import LinearProbe, ProbeResult, control_labels, fit_probe, probe, split_groups
from llmbook.interpret.rollout import attention_rollout

__all__ = [
    "Attribution",
    "HeadScores",
    "LinearProbe",
    "ProbeResult",
    "States",
    "ablation_effect",
    "attention_rollout",
    "capture",
    "contributions",
    "control_labels",
    "duplicate_token_score",
    "find",
    "fit_probe",
    "head_outputs",
    "head_scores",
    "induction_score",
    "logit_attribution",
    "logit_lens",
    "offset_score",
    "patch",
    "patching_grid",
    "previous_token_score",
    "probe",
    "read_out",
    "repeated_tokens",
    "split_groups",
    "without_heads",
]
