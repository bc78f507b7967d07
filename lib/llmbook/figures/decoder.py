"""The decoder in one drawing: the residual stream, what reads from it and adds to it, and where the parameters lie.

Every box has a panel with its shape, its parameters and the line of code that computes it. The numbers are those of
the configuration that is drawn.
"""

from collections.abc import Mapping

from llmbook.figures.drawing import Drawing, Panel

STREAM, ROW = 70, 44  # where the stream runs; the height of a box
LINES = {
    "embeddings": "x = table[ids] + places[: ids.shape[1]]",
    "attention_norm": "part.attention_norm(x)",
    "attention": "x = x + part.attention(part.attention_norm(x), causal=True)[0]",
    "feed_forward_norm": "part.feed_forward_norm(x)",
    "feed_forward": "x = x + part.feed_forward(part.feed_forward_norm(x))",
    "final_norm": "x = last_norm(x)",
    "logits": "logits = x @ table.T",
}
DOES = {
    "embeddings": "looks up a vector for each token",
    "attention_norm": "brings a copy of each vector to one size",
    "attention": "reads earlier tokens",
    "feed_forward_norm": "brings a copy of each vector to one size",
    "feed_forward": "works on each token alone",
    "final_norm": "brings the last vector to one size",
    "logits": "compares the vector with that of every token",
}


def decoder_diagram(
    name: str,
    parameters: Mapping[str, int],
    *,
    width: int,
    wide: int,
    vocabulary: int,
    layers: int,
    lines: Mapping[str, str] = LINES,
) -> Drawing:
    """A pre-norm decoder called ``name``, from the tokens below to the probabilities above; each box opens a panel.

    parameters: of each part in ``LINES``, those of one block for a part that every block has. width: C; wide: F.
    lines: the code of each part. Raises FigureError where a drawing does.
    """
    total = sum(n * (layers if _in_block(part) else 1) for part, n in parameters.items())
    drawing = Drawing(
        400,
        600,
        title=f"{name}: {_short(total)} parameters",
        alt=f"{name} from below to above: token ids, embeddings, then {layers} blocks on one residual stream, a last "
        "norm, logits. In a block attention and the feed-forward layer each read a normalised copy of the stream and "
        f"add their result to it. Parameters: {', '.join(f'{_called(part)} {n:,}' for part, n in parameters.items())}.",
        caption="Choose a box (click, or Tab): its shape, its parameters, its line of code. The vertical line is the "
        "residual stream; nothing on it is replaced, every part adds.",
    )
    shapes = dict.fromkeys(parameters, f"[B, T, {width:,}]")
    shapes |= {"feed_forward": f"[B, T, {width:,}], inside [B, T, {wide:,}]", "logits": f"[B, T, {vocabulary:,}]"}

    def box(part: str, x: float, y: float, w: float, role: str):
        n = parameters[part]
        facts = {"does": DOES[part], "gives": shapes[part]}
        facts |= {"parameters": f"{n:,}, × {layers} blocks = {n * layers:,}" if _in_block(part) else f"{n:,}"}
        panel = Panel(_called(part), facts, code=lines[part])
        label = "norm" if part.endswith("norm") else _called(part)
        shown = _short(n) if n else "same table"
        return drawing.box(x, y, w, ROW, f"{label}\n{shown}", role=role, size=13, panel=panel)

    drawing.text(STREAM, 586, "token ids [B, T]", size=13)
    drawing.arrow((STREAM, 576), (STREAM, 562))
    box("embeddings", 14, 518, 112, "green")
    drawing.text(STREAM + 10, 500, f"stream [B, T, {width:,}]", role="soft", size=13, anchor="start")
    drawing.box(6, 188, 388, 294, dashed=True, filled=False, role="soft")
    drawing.text(384, 204, f"block, × {layers}", size=13, anchor="end", bold=True)
    below = 518.0
    for part, role, y in (("attention", "blue", 420), ("feed_forward", "red", 282)):
        norm, worker = box(f"{part}_norm", 112, y, 74, "soft"), box(part, 226, y, 150, role)
        drawing.arrow((STREAM, y + ROW / 2), norm.left)
        drawing.arrow(norm.right, worker.left)
        plus = drawing.box(STREAM - 12, y - 60, 24, 24, "+", round=12)
        drawing.arrow(worker.top, (worker.top[0], y - 48), headed=False)
        drawing.arrow((worker.top[0], y - 48), plus.right)
        drawing.text(worker.top[0] - 8, y - 26, DOES[part], role="soft", size=13, anchor="end")
        drawing.arrow((STREAM, below), plus.bottom)
        below = plus.top[1]
    final = box("final_norm", 14, 120, 112, "soft")
    drawing.arrow((STREAM, below), final.bottom)
    logits = box("logits", 14, 52, 112, "green")
    drawing.arrow(final.top, logits.bottom)
    drawing.arrow(logits.top, (STREAM, 30))
    drawing.text(14, 16, "softmax: probabilities of the next token", size=13, anchor="start")
    return drawing


def _in_block(part: str) -> bool:
    return part.startswith(("attention", "feed_forward"))


def _called(part: str) -> str:
    return part.replace("feed_forward", "feed-forward").replace("_", " ")


def _short(n: int) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if n >= size:
            return f"{n / size:.3g} {letter}"
    return str(n)
