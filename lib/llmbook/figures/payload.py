"""A family of figures as one small JSON object, and back.

The frames of a sweep share almost everything. What never varies is kept once, in ``fig``; numeric arrays are
de-duplicated and stored together in ``blob`` (gzip, base64), floats as 16-bit steps between the ends of their own
range, which errs by at most 1/131070 of it; every other value that varies (texts, axis ends) is kept exactly.
Arrays shown on a logarithmic axis, or holding infinities, are kept as 32-bit floats: there the range says nothing.

``unpack`` is what web/explorer.js does, written in Python: the tests decode with it and compare with ``fn``.
"""

import base64
import gzip
import json
import math
from typing import Any

import numpy as np

from llmbook.figures.theme import FigureError

VERSION = 1
_NAN = 65535  # the 16-bit code of a missing value
_STEPS = 65534
_TYPES = {"u1": "|u1", "u2": "<u2", "i4": "<i4", "f4": "<f4", "f8": "<f8"}


def plain(fig: Any) -> dict:
    """A plotly figure (or its dict) as dicts, lists, scalars and numpy arrays; the template is left to the page.

    Numbers of the layout, such as the places of ticks, stay lists: exact, and of any length from frame to frame.
    """
    d = fig.to_dict() if hasattr(fig, "to_dict") else fig
    layout = {k: v for k, v in d.get("layout", {}).items() if k != "template"}
    return {"data": _plain(list(d.get("data", []))), "layout": _lists(_plain(layout))}


def pack(frames: list[dict], names: list[str]) -> dict:
    """``frames`` (of ``plain``), in C order over the dials, as one JSON-able object. ``names``: for messages.

    Raises FigureError naming the first frame that differs in its traces, keys or array shapes from frame 0.
    """
    tables = [dict(_leaves(frame)) for frame in frames]
    first = tables[0]
    exact = _log_axes(frames[0])
    arrays: list[dict] = []
    chunks: list[bytes] = []
    known: dict[Any, int] = {}
    use: list[list] = []
    vary: list[list] = []
    for name, table in zip(names, tables, strict=True):
        if table.keys() != first.keys():
            path = min(table.keys() ^ first.keys(), key=str)
            has, lacks = (name, names[0]) if path in table else (names[0], name)
            raise FigureError(
                f"the frames differ: {_dotted(path)} is present at {has} but not at {lacks}. Every frame needs the "
                "same traces and keys: draw an empty trace (NaN) instead of leaving one out"
            )
    for path, value in first.items():
        values = [table[path] for table in tables]
        kinds = {isinstance(v, np.ndarray) for v in values}
        if kinds == {True}:
            for name, v in zip(names, values, strict=True):
                if v.shape != value.shape:
                    raise FigureError(
                        f"the frames differ in shape: {_dotted(path)} is {list(value.shape)} at {names[0]} but "
                        f"{list(v.shape)} at {name}. Fill up with NaN, or make a sweep for each size"
                    )
            spec, order = _encode(values, exact=exact and path[-1] in ("x", "y"))
            key = (spec.pop("bytes"), json.dumps(spec))
            if key not in known:
                known[key] = len(arrays)
                arrays.append(spec)
                chunks.append(key[0])
            use.append([list(path), known[key], *([order] if max(order) else [])])
        elif kinds == {True, False}:
            numbers = [isinstance(v, np.ndarray) for v in values]
            has, lacks = names[numbers.index(True)], names[numbers.index(False)]
            raise FigureError(
                f"the frames differ: {_dotted(path)} is numbers at {has} but not at {lacks}; give arrays of one shape"
            )
        else:
            coded = [json.dumps(v, allow_nan=False, ensure_ascii=False) for v in values]
            unique = list(dict.fromkeys(coded))
            if len(unique) > 1:
                vary.append(
                    [
                        list(path),
                        [json.loads(u) for u in unique],
                        [unique.index(c) for c in coded],
                    ]
                )
    offset = 0
    for spec, chunk in zip(arrays, chunks, strict=True):
        spec["o"] = offset
        offset += len(chunk)
    blob = base64.b64encode(gzip.compress(b"".join(chunks), 9, mtime=0)).decode() if chunks else ""
    skeleton = _fold(frames[0])
    return {
        "v": VERSION,
        "n": len(frames),
        "fig": skeleton,
        "arrays": arrays,
        "use": use,
        "vary": vary,
        "blob": blob,
    }


def unpack(packed: dict) -> list[dict]:
    """The frames of a ``pack``ed object, as the page draws them."""
    blob = gzip.decompress(base64.b64decode(packed["blob"])) if packed["blob"] else b""
    tables = [_decode(spec, blob) for spec in packed["arrays"]]
    frames = []
    for i in range(packed["n"]):
        frame = json.loads(json.dumps(packed["fig"]))
        for path, which, *order in packed["use"]:
            _put(frame, path, tables[which][order[0][i] if order else 0])
        for path, values, order in packed["vary"]:
            _put(frame, path, values[order[i]])
        frames.append(frame)
    return frames


def _encode(values: list[np.ndarray], exact: bool) -> tuple[dict, list[int]]:
    """One array a frame -> its description with the bytes of the distinct ones, and which of them each frame has."""
    unique: dict[bytes, int] = {}
    order = [unique.setdefault(np.ascontiguousarray(v, dtype=np.float64).tobytes(), len(unique)) for v in values]
    stack = np.stack([np.frombuffer(key) for key in unique])
    spec: dict[str, Any] = {"s": list(values[0].shape)}
    finite = np.isfinite(stack)
    whole = finite.all() and np.array_equal(stack, np.rint(stack)) and np.abs(stack).max() < 2**31
    if whole:
        spec["t"] = "u1" if stack.min() >= 0 and stack.max() < 256 else "i4"
        codes = stack.astype(_TYPES[spec["t"]])
    elif exact or np.isinf(stack).any() or not finite.any():
        spec["t"] = "f8" if finite.any() and np.abs(stack[finite]).max() > 1e38 else "f4"
        codes = stack.astype(_TYPES[spec["t"]])
    else:
        spec["t"] = "u2"
        low = np.where(finite, stack, np.inf).min(1)
        high = np.where(finite, stack, -np.inf).max(1)
        low, high = np.where(np.isinf(low), 0, low), np.where(np.isinf(high), 0, high)
        step = (high - low) / _STEPS
        step = np.where(step > 0, step, 1.0)
        codes = np.where(
            finite,
            np.rint((np.where(finite, stack, 0) - low[:, None]) / step[:, None]),
            _NAN,
        )
        codes = codes.astype("<u2")
        spec.update(lo=low.tolist(), k=step.tolist())
    raw = _planes(codes)
    if spec["t"] == "u2":  # a smooth curve is smaller as differences (modulo 2¹⁶), a noisy matrix as it is
        steps = np.diff(codes.ravel(), prepend=np.uint16(0)).astype("<u2")
        if len(gzip.compress(_planes(steps), 1)) < 0.9 * len(gzip.compress(raw, 1)):
            spec["d"], raw = 1, _planes(steps)
    return {**spec, "n": len(unique), "bytes": raw}, order


def _planes(codes: np.ndarray) -> bytes:
    """Bytes of equal weight side by side: gzip then sees the smooth high bytes apart from the noisy low ones."""
    return np.frombuffer(codes.tobytes(), dtype=np.uint8).reshape(-1, codes.itemsize).T.tobytes()


def _decode(spec: dict, blob: bytes) -> np.ndarray:
    dtype = np.dtype(_TYPES[spec["t"]])
    count = spec["n"] * math.prod(spec["s"])
    raw = np.frombuffer(blob, np.uint8, count * dtype.itemsize, spec["o"]).reshape(dtype.itemsize, count).T
    codes = np.frombuffer(raw.tobytes(), dtype)
    if spec.get("d"):
        codes = np.cumsum(codes, dtype=dtype)
    codes = codes.reshape(spec["n"], -1)
    if spec["t"] == "u2":
        low, step = np.array(spec["lo"])[:, None], np.array(spec["k"])[:, None]
        codes = np.where(codes == _NAN, np.nan, low + step * codes)
    return codes.reshape(spec["n"], *spec["s"])


def _plain(x: Any) -> Any:
    if isinstance(x, dict):
        if "bdata" in x and "dtype" in x:  # plotly 6 and later give arrays as base64
            flat = np.frombuffer(base64.b64decode(x["bdata"]), dtype=np.dtype(x["dtype"]))
            return flat.reshape([int(n) for n in str(x["shape"]).split(",")]) if "shape" in x else flat
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, np.ndarray):
        if x.dtype.kind == "b":
            return x.astype(np.uint8)
        return x if x.dtype.kind in "fiu" else _plain(x.tolist())
    if isinstance(x, np.generic):
        return _plain(x.item())
    if hasattr(x, "detach"):
        return x.detach().cpu().numpy()
    if isinstance(x, (list, tuple)):
        if len(x) >= 8 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in x):
            return np.asarray(x)
        return [_plain(v) for v in x]
    if isinstance(x, float) and not math.isfinite(x):
        return None
    return x


def _lists(x: Any) -> Any:
    """``_plain``'s arrays as lists again."""
    if isinstance(x, dict):
        return {k: _lists(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_lists(v) for v in x]
    if isinstance(x, np.ndarray):
        return [None if isinstance(v, float) and not math.isfinite(v) else v for v in x.tolist()]
    return x


def _leaves(x: Any, path: tuple = ()):
    """Every value with its path; a list without dicts is one value."""
    if isinstance(x, dict) and x:
        for key, value in x.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(x, list) and any(isinstance(v, (dict, np.ndarray)) for v in x):
        for i, value in enumerate(x):
            yield from _leaves(value, (*path, i))
    else:
        yield path, x


def _fold(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _fold(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_fold(v) for v in x]
    return None if isinstance(x, np.ndarray) else x


def _put(x: Any, path: list, value: Any) -> None:
    for key in path[:-1]:
        x = x[key]
    x[path[-1]] = value


def _log_axes(frame: dict) -> bool:
    axes = (v for k, v in frame["layout"].items() if k[1:5] == "axis" and isinstance(v, dict))
    return any(axis.get("type") == "log" for axis in axes)


def _dotted(path: tuple) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
