"""``python -m tests.gpu.compiled DEVICE``: the same model and the same run, compiled and not; says what agreed."""

import sys

import torch

from llmbook.model import DecoderLM, Encoder, EncoderDecoderLM, TransformerConfig
from llmbook.training import Runtime
from tests.training.distributed.worker import make_trainer

CLOSE = dict(atol=1e-4, rtol=1e-3)


def kinds(device: torch.device):
    """A model of every kind, with every way to say where a token stands, and what it reads: padded, or not."""
    sizes = dict(vocab_size=61, max_seq_len=32, d_model=32, n_layers=1, n_heads=4)
    ids = torch.randint(61, (2, 8), device=device)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    for positions in ("none", "sinusoidal", "learned", "alibi", "rope"):
        config = TransformerConfig(positions=positions, sliding_window=4, qk_norm=True, n_kv_heads=2, **sizes)
        yield DecoderLM(config).to(device).eval(), dict(input_ids=ids, attention_mask=mask)
    config = TransformerConfig.modern(**sizes, attention_backend="eager")
    yield DecoderLM(config).to(device).eval(), dict(input_ids=ids)
    yield Encoder(TransformerConfig.bert(**sizes)).to(device).eval(), dict(input_ids=ids, attention_mask=mask)
    both = EncoderDecoderLM(TransformerConfig.t5(**sizes)).to(device).eval()
    yield both, dict(input_ids=ids, decoder_input_ids=ids, attention_mask=mask)


def main(name: str) -> None:
    device, plain = torch.device(name), torch.compile
    real = name == "cuda" and not torch.cuda.get_device_name().endswith("(pretended)")
    backend = "inductor" if real else "aot_eager"  # no C++ compiler is asked for
    compiled = []

    def watched(model):
        compiled.append(model)
        return plain(model, backend=backend, fullgraph=True)  # a graph that breaks is an error

    torch.compile = watched
    torch.manual_seed(0)
    sizes = dict(vocab_size=61, max_seq_len=32, d_model=32, n_layers=2, n_heads=4, init_std=0.2)
    model = DecoderLM(TransformerConfig.llama(**sizes)).to(device).eval()
    faster = torch.compile(model)
    for length in (8, 13):
        ids = torch.randint(61, (2, length), device=device)
        torch.testing.assert_close(faster(ids).logits, model(ids).logits, **CLOSE)
    print("forward")
    for kind, inputs in kinds(device):
        torch._dynamo.reset()
        whole = plain(kind, backend="eager", fullgraph=True)  # traced only: a graph that breaks is an error
        torch.testing.assert_close(whole(**inputs).last_hidden_state, kind(**inputs).last_hidden_state)
    print("graphs")
    runtime = Runtime(device, torch.float32, "a test")
    trainer, reference = make_trainer(runtime=runtime, compile=True), make_trainer(runtime=runtime)
    torch.testing.assert_close(trainer.run().train_loss, reference.run().train_loss, **CLOSE)
    assert compiled == [model, trainer.model], "compile=True was forgotten"
    assert list(trainer.model.state_dict()) == list(reference.model.state_dict())
    print("training")


if __name__ == "__main__":
    main(sys.argv[1])
