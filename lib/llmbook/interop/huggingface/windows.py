"""Which layers of a foreign model read through a window, both ways.

Newer files name the kind of each layer in ``layer_types``; in older ones it follows from a rule of the model's kind.
"""

from collections.abc import Callable
from typing import Any

from llmbook.model import TransformerConfig

_WINDOW, _FULL = "sliding_attention", "full_attention"
MOST_LAYERS = 10_000  # no model has so many; a damaged file may say so


def window_settings(
    values: dict[str, Any], *, has_window: Callable[[int], bool] = lambda layer: True
) -> dict[str, Any]:
    """``sliding_window`` and ``full_layers`` of our configuration; ``has_window`` says which layers have one by rule.

    Raises ValueError for a kind of layer that is neither.
    """
    window, n_layers, kinds = values.get("sliding_window"), values["num_hidden_layers"], values.get("layer_types")
    if window is None:
        return {}
    if type(n_layers) is not int or not 1 <= n_layers <= MOST_LAYERS:
        raise ValueError(f"num_hidden_layers={n_layers!r} is no number of layers")
    if kinds is None:
        kinds = [_WINDOW if has_window(i) else _FULL for i in range(n_layers)]
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        raise ValueError(f"layer_types={kinds!r} does not name the kind of each of {n_layers} layers")
    if other := [kind for kind in kinds if kind not in (_WINDOW, _FULL)]:
        raise ValueError(f"layer_types has {other[0]!r}; only {_WINDOW!r} and {_FULL!r} are read")
    full = tuple(i for i, kind in enumerate(kinds) if kind == _FULL)
    return {} if len(full) == n_layers else {"sliding_window": window, "full_layers": full}


def their_windows(config: TransformerConfig) -> dict[str, Any]:
    """The same under their names."""
    kinds = [_WINDOW if config.has_window(i) else _FULL for i in range(config.n_layers)]
    return {"sliding_window": config.sliding_window, "layer_types": kinds}
