"""Tokens: merges by hand, one vocabulary for two languages, the fewest tokens that spell a word."""

from llmbook.exercises.exercise import Case, Exercise, Hint

TEXT = "she sells sea shells"


def _learned():
    from llmbook.text import BPETokenizer

    tokenizer = BPETokenizer.train(TEXT, vocab_size=300)
    return " ".join(tokenizer.token(i) for i in range(256, tokenizer.vocab_size))


merges = Exercise(
    answer=_learned,
    hints=[
        Hint("␣s el ell ells", "In step 3, l + s wins: a new token has a higher id than every letter."),
        Hint("␣s el ls", "One pair still occurs twice: el + ls."),
        Hint(lambda made: not made.startswith("␣s "), "Count again: which pair occurs three times? The space counts."),
    ],
)

OWN = {1024: {"English": 2.34, "Chinese": 2.41}, 2048: {"English": 2.70, "Chinese": 2.86}}  # measured on the page

shared = Exercise(
    answer={"English": 2.38, "Chinese": 2.51},  # measured on the page; learning takes seconds
    tolerance=0.025,
    hints=[
        Hint(OWN[2048], "This is what 2,048 tokens for one language reach: here two languages share them."),
        Hint(
            lambda given: all(given[name] < OWN[1024][name] for name in given),
            "Not that little: even 1,024 tokens of its own do better for each of the two.",
        ),
    ],
)

BYTES = {bytes([byte]) for byte in range(256)}
VOCAB = BYTES | {b"ab", b"abc", b"bcd", b"cd", b"cde"}


def fewest(word, vocab):
    """A shortest list of tokens that spells ``word``: the best spelling of every beginning, in turn."""
    best = [[]]
    for end in range(1, len(word) + 1):
        best.append(min((best[i] + [word[i:end]] for i in range(end) if word[i:end] in vocab), key=len))
    return best[-1]


def _greedy(word, vocab):
    """The longest token first."""
    spelled = []
    while word:
        end = next(n for n in range(len(word), 0, -1) if word[:n] in vocab)
        spelled, word = [*spelled, word[:end]], word[end:]
    return spelled


def _spells(word, n_tokens, vocab=VOCAB):
    def test(function):
        found = list(function(word, vocab))
        if b"".join(found) != word:
            return f"{word} comes out as {b''.join(found)}"
        if strange := [piece for piece in found if piece not in vocab]:
            return f"{strange[0]} is no token of the vocabulary"
        return None if len(found) == n_tokens else f"{len(found)} tokens for {word}; {n_tokens} are enough"

    return test


build = Exercise(
    build=fewest,
    cases=[
        Case("abcd takes two tokens", test=_spells(b"abcd", 2)),
        Case("abcde takes two, too", test=_spells(b"abcde", 2)),
        Case("the empty word takes none", test=_spells(b"", 0)),
        Case("abcabcd takes three", test=_spells(b"abcabcd", 3)),
        Case("what has no token is spelled in bytes", test=_spells("汉".encode(), 3)),
        Case("one token for all", test=_spells(b"abc", 1)),
    ],
    hints=[Hint(_greedy, "The longest token first is not always best: abc + d + e are three, ab + cde two.")],
)

EXERCISES = {1: merges, 2: shared, 3: build}
