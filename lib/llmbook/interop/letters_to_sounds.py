"""Three small encoder–decoders that read letters and write sounds, trained for this book from three seeds.

``python -m publishing sounds`` trains them on the CMU Pronouncing Dictionary and leaves them in half precision in
``llmbook/published/letters-to-sounds.bin``: a safetensors file, with what was done in its header.
"""

import json
from typing import Any

from llmbook.interop.building import filled
from llmbook.model import EncoderDecoderLM, TransformerConfig
from llmbook.published import FOLDER

WEIGHTS = FOLDER / "letters-to-sounds.bin"


def about_letters_to_sounds() -> dict[str, Any]:
    """What is known of these models: configuration, training, minutes, which words they never saw, the command."""
    from safetensors import safe_open

    with safe_open(WEIGHTS, framework="pt") as file:
        return json.loads(file.metadata()["about"])


def load_letters_to_sounds(seed: int = 0) -> EncoderDecoderLM:
    """The model of that seed, in evaluation mode; ``llmbook.text.LettersAndSounds`` is its vocabulary.

    Raises ValueError for a seed that none was trained from.
    """
    from safetensors import safe_open

    about = about_letters_to_sounds()
    if seed not in about["seeds"]:
        raise ValueError(f"seed={seed}: models were trained from the seeds {about['seeds']}")
    start = f"{seed}."
    with safe_open(WEIGHTS, framework="pt") as file:
        weights = {n.removeprefix(start): file.get_tensor(n).float() for n in file.keys() if n.startswith(start)}  # noqa: SIM118
    config = TransformerConfig.from_dict(about["config"])
    model: Any = filled(lambda: EncoderDecoderLM(config), config, weights, source=WEIGHTS)
    return model
