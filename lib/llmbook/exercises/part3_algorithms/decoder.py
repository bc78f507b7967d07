"""Decoder: one reading by hand, one layer's attention against deletion, cross-attention to be written."""

import math

import torch

from llmbook.exercises.exercise import Case, Exercise, Hint

by_hand = Exercise(
    answer=[0.75, 0.25, 5.0],
    tolerance=0.01,
    hints=[
        Hint([0.8255, 0.1745, 4.698], "Divide the scores by √2 before the softmax."),
        Hint([0.25, 0.75, 7.0], "The first key points the way of the query: it gets the larger weight."),
        Hint([1.0, 0.0, 4.0], "Softmax: e to the power of each score, divided by their sum."),
    ],
)

causes = Exercise(
    between=(0.0, 1.5),
    hints=[
        Hint(
            lambda given: given < 0, "Nats lost are a difference of log-probabilities: large when the sound needed it."
        ),
        Hint(lambda given: given > 1.5, "That is a letter that counts. Take the least of the six, over all sounds."),
    ],
)


def cross_attention(x, memory, W_q, W_k, W_v):
    """What each place of ``x`` [T, C] reads in ``memory`` [M, C] with one head."""
    q, k, v = x @ W_q, memory @ W_k, memory @ W_v
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def _unscaled(x, memory, W_q, W_k, W_v):
    return ((x @ W_q) @ (memory @ W_k).mT).softmax(-1) @ (memory @ W_v)


def _itself(x, memory, W_q, W_k, W_v):
    return cross_attention(x, x, W_q, W_k, W_v)


def _over_places(x, memory, W_q, W_k, W_v):
    q, k, v = x @ W_q, memory @ W_k, memory @ W_v
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(0) @ v


def _values_of_memory(x, memory, W_q, W_k, W_v):
    q, k = x @ W_q, memory @ W_k
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ memory


def _draw(T, M, C, D, seed):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(T, C, generator=g),
        torch.randn(M, C, generator=g),
        *(torch.randn(C, D, generator=g) for _ in range(3)),
    )


build = Exercise(
    build=cross_attention,
    tolerance=1e-3,
    cases=[
        Case("three sounds, five letters", _draw(3, 5, 4, 2, 0)),
        Case("as many sounds as letters", _draw(4, 4, 6, 6, 1)),
        Case("one sound", _draw(1, 7, 4, 3, 2)),
    ],
    hints=[
        Hint(_unscaled, "Divide the scores by √D, D the width of a query."),
        Hint(_itself, "Keys and values come from the memory: this is self-attention."),
        Hint(_over_places, "Each sound's weights over the letters add up to 1: softmax along the last axis."),
        Hint(_values_of_memory, "What is mixed are the values, memory @ W_v, not the memory itself."),
    ],
)

EXERCISES = {1: by_hand, 2: causes, 3: build}
