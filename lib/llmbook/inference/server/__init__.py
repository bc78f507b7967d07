"""A model behind HTTP, in the dialect that OpenAI's clients speak.

    client ── HTTP ── handler ── requests ──▶ worker ── Engine ── model
              ◀─ text, as it is written ──── events ◀──

Begin with ``dialect`` (what may be asked, and what is answered), then ``worker`` (the one thread that has the engine)
and ``app`` (a thread for each connection). Python's standard library is enough for all of it.

    python -m llmbook.inference.server --model smollm2 --port 8000
"""

from llmbook.inference.server.app import CompletionServer, Limits
from llmbook.inference.server.dialect import ApiError

__all__ = ["ApiError", "CompletionServer", "Limits"]
