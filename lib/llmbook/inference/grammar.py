"""Texts that must conform: at each step, the tokens after which the text can still become what is wanted.

What is wanted is a regular expression, or JSON that a schema describes. An automaton reads the text byte by byte; a
token is allowed if it can read all of the token's bytes and still reach an end. The tokens it does not allow get the
logit −∞, and the model chooses among the others (https://arxiv.org/abs/2307.09702):

    schema {"type": "integer"}, text so far  "-1"
    next token      0    7    "   abc  -    end
    allowed         yes  yes  no  no   no   yes

The automaton is llguidance's (https://github.com/guidance-ai/llguidance), which walks the whole vocabulary at once. It
is given bytes, so that it works for every tokenizer whose tokens are bytes, characters or text, and with a token that
ends in the middle of a character. Every token that can go on is allowed, not only the one this tokenizer would take.

    grammar = Grammar.regex(r"\\d{4}-\\d{2}-\\d{2}", tokenizer)
    generate(model, ids, grammar=grammar, eos_token_id=end)
"""

import json
import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmbook.inference.processors import FORBIDDEN
from llmbook.text import Tokenizer

INSTALL = "grammars need the package llguidance: pip install 'llmbook[grammar]'"
EVERY_TOKEN = '%llguidance {"no_forcing": true}\n'  # also tokens that the tokenizer would not take by itself
WHITESPACE = {"whitespace_pattern": " ?"}  # without a bound, a model that likes spaces writes nothing else
PLACE = re.compile(r"^at \d+\(\d+\): ")  # in the rules that are made here, which the reader has not seen
_vocabularies: "WeakKeyDictionary[Tokenizer, Any]" = WeakKeyDictionary()


class Grammar:
    """What texts must conform to, for one tokenizer; made by ``regex`` or ``json_schema``, and never changed.

    Attributes:
        source: the expression or the schema, as text.
    """

    def __init__(self, source: str, rule: str, tokenizer: Tokenizer):
        self.source, self.tokenizer = source, tokenizer
        self._start = _start(source, EVERY_TOKEN + "start: " + rule, _vocabulary(tokenizer))

    @classmethod
    def regex(cls, pattern: str, tokenizer: Tokenizer) -> "Grammar":
        """Texts that ``pattern`` matches from beginning to end, in the dialect of Rust's ``regex``: without
        look-around and back references.

        Raises:
            ImportError: llguidance is not installed.
            ValueError: the pattern is invalid or beyond that dialect (the message says where), or the tokenizer's
                tokens have no bytes of their own.
        """
        escaped = pattern.replace("/", "\\/").replace("\n", "\\n").replace("\r", "\\r")
        return cls(pattern, f"/{escaped}/", tokenizer)

    @classmethod
    def json_schema(cls, schema: dict[str, Any] | bool, tokenizer: Tokenizer) -> "Grammar":
        """JSON that ``schema`` (https://json-schema.org) describes, with at most a space between its parts.

        ``{"type": "object"}`` is any object. Raises as ``regex`` does: ValueError for a schema that is invalid, and for
        one with a keyword whose promise could not be kept.
        """
        if isinstance(schema, dict):
            source = json.dumps(schema)
            schema = {**schema, "x-guidance": WHITESPACE}
        else:
            source = json.dumps(schema)
        return cls(source, "%json " + json.dumps(schema), tokenizer)

    def matcher(self) -> "Matcher":
        """The automaton at the beginning of a text."""
        return Matcher(self, self._start.deep_copy())

    def __repr__(self) -> str:
        return f"Grammar({self.source!r})"


class Matcher:
    """How far one text has come in its grammar."""

    def __init__(self, grammar: Grammar, state: Any):
        self.grammar, self._state, self._tokens = grammar, state, []

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return self._state.is_accepting()

    def allowed(self, vocab_size: int, ends: Sequence[int] = ()) -> Bool[Tensor, "V"]:
        """Which tokens of a model's vocabulary may come next; an end token may where the text is complete.

        Raises ValueError at a dead end: the text is not complete, and no token goes on.
        """
        bits = torch.frombuffer(bytearray(self._state.compute_bitmask()), dtype=torch.uint8)
        n_tokens = self.grammar.tokenizer.vocab_size
        mask = (bits[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten()[:n_tokens].bool()
        allowed = torch.zeros(max(vocab_size, n_tokens), dtype=torch.bool)
        if not self._state.is_stopped():
            allowed[:n_tokens] = mask
        allowed = allowed[:vocab_size]
        if ends:
            allowed[list(ends)] = self.complete
        if not allowed.any() and not self.complete:
            text = self.grammar.tokenizer.decode(self._tokens)
            raise ValueError(
                f"{self.grammar!r}: dead end after {text!r}: the text is not complete, and no token of this "
                f"vocabulary goes on ({self._reason()})"
            )
        return allowed

    @property
    def at_its_end(self) -> bool:
        """Whether the text is complete and nothing can follow."""
        return self.complete and not bool(self.allowed(self.grammar.tokenizer.vocab_size).any())

    def push(self, token: int) -> None:
        """Go on by a token. Raises ValueError for one that is not allowed."""
        if not self._state.try_consume_tokens([token]):
            text = self.grammar.tokenizer.decode(self._tokens)
            raise ValueError(f"{self.grammar!r}: token {token} cannot come after {text!r}")
        self._tokens.append(token)

    def pop(self, n: int = 1) -> None:
        """Take the last ``n`` tokens back."""
        if n:
            self._state.rollback(n)
            del self._tokens[-n:]

    def fork(self) -> "Matcher":
        """Another text that has come as far."""
        other = Matcher(self.grammar, self._state.deep_copy())
        other._tokens = list(self._tokens)
        return other

    def _reason(self) -> str:
        return self._state.get_error().partition("\n")[0] or self._state.stop_reason()


class GrammarProcessor:
    """A grammar as a logits processor, ``processor(input_ids, logits)``, such as transformers' ``generate`` takes.

    Args:
        grammar: what the new text must conform to.
        n_prompt: how many tokens of each row are the prompt, which the grammar does not read.
        eos_token_id: the tokens that may end a complete text. A row behind its end may only repeat it.
    """

    def __init__(self, grammar: Grammar, *, n_prompt: int, eos_token_id: Sequence[int] = ()):
        self.grammar, self.n_prompt, self.ends = grammar, n_prompt, tuple(eos_token_id)

    def __call__(self, input_ids: Int[Tensor, "B T"], logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """The logits with −∞ for every token that is not allowed."""
        rows = [self._allowed(row, logits.shape[-1]) for row in input_ids[:, self.n_prompt :].tolist()]
        return logits.masked_fill(~torch.stack(rows).to(logits.device), FORBIDDEN)

    def _allowed(self, row: list[int], vocab_size: int) -> Bool[Tensor, "V"]:
        matcher = self.grammar.matcher()
        for token in row:
            if token in self.ends:
                return torch.zeros(vocab_size, dtype=torch.bool).index_fill(0, torch.tensor(list(self.ends)), True)
            matcher.push(token)
        return matcher.allowed(vocab_size, self.ends)


def _start(source: str, rules: str, vocabulary: Any) -> Any:
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(rules, vocabulary)
    state = None if failed else LLMatcher(vocabulary, rules, log_level=0)
    if failed or messages or state.is_error():
        reason = (messages or [state.get_error()])[0]
        raise ValueError(f"{source!r} is not supported as a grammar: {_first_words(reason)}")
    return state


def _first_words(message: str) -> str:
    """The reason in an error of llguidance's, without the listing of the rules it stands in."""
    lines = [line.strip() for line in message.splitlines()]
    reason = next((line for line in lines if line.startswith("error: ")), lines[0] if lines else message)
    return PLACE.sub("", reason.removeprefix("error: ")).removeprefix("failed to compile JSON schema: ")


def _vocabulary(tokenizer: Tokenizer) -> Any:
    """The tokenizer as llguidance reads it: bytes by token, and behind them an end token of its own."""
    if tokenizer not in _vocabularies:
        try:
            from llguidance import LLTokenizer, TokenizerWrapper
        except ImportError:
            raise ImportError(INSTALL) from None
        pieces = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        _vocabularies[tokenizer] = LLTokenizer(TokenizerWrapper(_Bytes(pieces)))
    return _vocabularies[tokenizer]


class _Bytes:
    """What ``TokenizerWrapper`` asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, pieces: list[bytes]):
        self.tokens, self.eos_token_id = [*pieces, b"<end>"], len(pieces)
        self.special_token_ids = [i for i, piece in enumerate(pieces) if not piece] + [len(pieces)]

    def __call__(self, text: bytes) -> list[int]:
        return []  # asked for only where tokens are forced, which they are not
