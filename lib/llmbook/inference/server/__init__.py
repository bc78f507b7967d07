"""A model behind HTTP, in the format that OpenAI's clients speak.

    client ── HTTP ── routes ── requests ──▶ worker ── Engine ── model
              ◀─ text, as it is written ── events ◀──

Begin with ``schema`` (what may be asked) and ``answers`` (what is answered), then ``worker`` (the one thread that has
the engine), ``service`` (from the one to the other) and ``app``. HTTP is starlette's and uvicorn's part
(https://www.starlette.io, https://www.uvicorn.org), bodies are checked by pydantic.

    pip install 'llmbook[server]'
    python -m llmbook.inference.server --model smollm2 --port 8000
"""

try:
    from llmbook.inference.server.app import Limits, ModelServer
    from llmbook.inference.server.errors import ApiError
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("llmbook"):
        raise
    raise ImportError(f"the server needs the package {error.name}: pip install 'llmbook[server]'") from error

__all__ = ["ApiError", "Limits", "ModelServer"]
