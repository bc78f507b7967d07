"""Decoding: three votes, votes at a low temperature, a search that prunes."""

import itertools
import random

from llmbook.exercises.exercise import Case, Exercise, Hint

votes = Exercise(
    answer=[0.352, 0.784],
    tolerance=0.005,
    hints=[
        Hint([0.288, 0.784], "Those are two of three. Three of three is a majority as well."),
        Hint([0.352, 0.064], "That is all three right. A checker needs one."),
        Hint([0.648, 0.784], "That is the majority for p = 0.6, or of the wrong answer."),
        Hint([0.352, 0.216], "That is how often all three fail; the checker succeeds otherwise."),
    ],
)

colder = Exercise(
    between=(0.35, 0.65),
    hints=[
        Hint(lambda given: given > 1, "Give a share of words, between 0 and 1."),
        Hint(lambda given: given <= 0.35, "Fewer than with the usual votes? Take the most frequent answer of 16."),
    ],
)


def find_mode(expand):
    """The likeliest finished text of a tree, found depth first."""
    best, best_p, stack = ".", 0.0, [(1.0, "")]
    while stack:
        p, text = stack.pop()
        if p <= best_p:
            continue
        for letter, q in sorted(expand(text).items(), key=lambda pair: pair[1]):
            if letter != ".":
                stack.append((p * q, text + letter))
            elif p * q > best_p:
                best, best_p = text + ".", p * q
    return best


def greedy(expand):
    """The likeliest branch at every fork."""
    text = ""
    while not text.endswith("."):
        following = expand(text)
        text += max(following, key=following.get)
    return text


class Tree:
    """A random language of texts up to ``depth`` letters that counts how often it is asked."""

    def __init__(self, seed: int, *, depth: int = 5, letters: str = "abc"):
        draw, self.calls, self.following = random.Random(seed), 0, {}
        for length in range(depth + 1):
            for text in map("".join, itertools.product(letters, repeat=length)):
                names = [".", *letters] if length < depth else ["."]
                weights = [draw.random() ** 3 + 1e-3 for _ in names]
                self.following[text] = {name: w / sum(weights) for name, w in zip(names, weights, strict=True)}

    def __call__(self, text: str) -> dict[str, float]:
        self.calls += 1
        return dict(self.following[text])

    def mode(self) -> str:
        scores = {}
        for text, following in self.following.items():
            p = following["."]
            for i, letter in enumerate(text):
                p *= self.following[text[:i]][letter]
            scores[text + "."] = p
        return max(scores, key=lambda text: scores[text])


def _modes(find):
    """None if ``find`` gives the mode of trees of several kinds, else what is wrong."""
    for seed in range(12):
        tree = Tree(seed)
        best, found = tree.mode(), find(tree)
        if found != best:
            return f"tree {seed}: the likeliest text is {best!r}, not {found!r}"
    return None


def _prunes(find):
    """None if ``find`` reads few of the beginnings, else how many."""
    calls = total = 0
    for seed in range(12):
        tree = Tree(seed)
        find(tree)
        calls, total = calls + tree.calls, total + len(tree.following)
    return None if 0 < calls < 0.25 * total else f"{calls} of {total} beginnings were read: leave what cannot win"


build = Exercise(
    build=find_mode,
    cases=[Case("twelve random trees", test=_modes), Case("few beginnings are read", test=_prunes)],
    hints=[
        Hint(
            greedy, "Neither the likeliest branches nor the empty text need be the mode: keep whatever may still win."
        ),
    ],
)

EXERCISES = {1: votes, 2: colder, 3: build}
