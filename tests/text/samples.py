"""Texts that have broken tokenizers before."""

ENGLISH = (
    "It was the best of times, it was the worst of times; it wasn't ours. They've said we'll see what they'd do.\n"
    "I'm sure he's right: 1984 wasn't 2024, and page 3½ of vol. Ⅳ costs $12.50 (or €11).\n"
) * 6
CHINESE = "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。三十二个字，一二三四五，百千万。\n" * 8
EMOJI = "👍🏽 fine 👨‍👩‍👧 family 🇨🇳🇫🇷 flags é e\u0301 ñ ﬁ ① ² ½ \u200d zero\ufeffwidth "
CODE = 'def f(x_1, *args):\n\tif x_1 >= 0x1F:  # comment\n\t\treturn {"a_b": [1, 2.5e-3]}\n\n\nclass __A__:\n    pass\n'
SPACES = "  two   three    four\n\n\n \t mixed \r\n ends with spaces   "
ODD_SPACES = "a\u00a0b\u3000c\u2028d\u0085e\x1cf\x1dg\x0bh\u180ei\u200bj  \u3000 k"
MARKS = "__init__ _a a_ ''s 's 'S 'll'll don't DON'T '' \x00\x01 \u0e01\u0e33 हिन्दी العربية "
TEXTS = {
    "english": ENGLISH,
    "chinese": CHINESE,
    "emoji": EMOJI,
    "code": CODE,
    "spaces": SPACES,
    "odd spaces": ODD_SPACES,
    "marks": MARKS,
    "one space": " ",
    "empty": "",
}
EVERYTHING = "".join(TEXTS.values())
