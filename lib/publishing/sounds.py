"""The three models of letters and sounds: train them, write them into the package (`python -m publishing sounds`)."""

import json
import platform
import time

import torch

from llmbook.interop.letters_to_sounds import WEIGHTS
from llmbook.model import EncoderDecoderLM, TransformerConfig
from llmbook.text import LettersAndSounds, load_pronunciations, pronunciation_batches, split_at_random
from llmbook.text.registry import REGISTRY
from llmbook.training import TrainConfig, Trainer, choose_runtime, seq2seq_loss

SEEDS = (0, 1, 2)
SHOWN = ("knight", "through", "debt", "island", "psalm", "castle", "write", "gnome", "night", "though")  # trained on
HELD_OUT = 1000
SIZES = dict(d_model=64, n_layers=2, n_heads=4, d_ff=128, max_seq_len=16, feed_forward="relu")
TRAIN = TrainConfig(steps=4000, lr=4e-3, warmup_steps=200, min_lr_ratio=0.02, weight_decay=0.01, beta2=0.98)
COMMAND = "python -m publishing sounds"


def make() -> None:
    """Train a model from each seed and write all of them, in half precision, with what was done in the header."""
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    words = load_pronunciations()
    train, test = split_at_random(words, held_out=HELD_OUT, keep=SHOWN)
    config = TransformerConfig(vocab_size=len(LettersAndSounds()), **SIZES)
    tensors, losses, begun = {}, [], time.perf_counter()
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = EncoderDecoderLM(config)
        batches = pronunciation_batches(words, train, seed=seed)
        runtime = choose_runtime("cpu", dtype="float32")
        Trainer(model, batches, TRAIN, objective=seq2seq_loss, runtime=runtime).run()
        weights = {name: weight.half() for name, weight in model.state_dict().items()}
        model.load_state_dict({name: weight.float() for name, weight in weights.items()})
        with torch.no_grad():
            total, n = seq2seq_loss(model.eval(), LettersAndSounds().batch(test, [words[word] for word in test]))
        losses.append(round(float(total / n), 4))
        tensors |= {f"{seed}.{name}": weight for name, weight in weights.items()}
        print(f"seed {seed}: {losses[-1]} nats a sound on {len(test)} words it never saw", flush=True)
    about = {
        "config": config.to_dict(), "seeds": SEEDS, "train": TRAIN.to_dict(), "trained_on": len(train),
        "held_out": HELD_OUT, "kept_for_training": SHOWN, "nats_a_sound_held_out": losses,
        "n_parameters": model.num_parameters(), "corpus": "cmudict", "licence": REGISTRY["cmudict"].licence,
        "citation": REGISTRY["cmudict"].citation, "command": COMMAND,
        "minutes": round((time.perf_counter() - begun) / 60, 1), "threads": 1,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    save_file(tensors, WEIGHTS, metadata={"about": json.dumps(about)})
    print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size / 1e6:.2f} MB, {about['minutes']} minutes")
