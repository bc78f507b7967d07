"""Folders as the Hub keeps them, and fetching them: from a server of this process that answers as the Hub does."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from llmbook.interop import config_to_huggingface, load_pretrained, save_model, to_huggingface
from llmbook.model import DecoderLM
from llmbook.storage import SourceError
from llmbook.text import BPETokenizer
from tests.interop.test_gguf import small_file
from tests.interop.test_repositories import write_folder
from tests.model.helpers import random_ids, shake, small_config

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = random_ids(1, 7)


def small_model(**changes) -> DecoderLM:
    parts = dict(positions="rope", norm="rmsnorm", feed_forward="swiglu", bias=False, tie_embeddings=False)
    return shake(DecoderLM(small_config(**{**parts, **changes}).replace(vocab_size=61)))


@pytest.fixture
def folder(tmp_path):
    """A model of Llama's kind in three files, and ours of the same weights."""
    model = small_model()
    weights = to_huggingface(model.state_dict(), "llama", n_layers=2)
    config = config_to_huggingface(model.config, "llama")
    return write_folder(tmp_path / "llama", config, weights, shards=3), model


def rewritten(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- folders ------------------------------------------------------------------------------------------------------


def test_every_kind_of_place_is_read(folder, tmp_path):
    """A folder of save_model taken for one of the Hub, a GGUF file by its path; another type than was asked for."""
    place, model = folder
    assert torch.equal(load_pretrained(place)[0](IDS).logits, model(IDS).logits)
    half, _ = load_pretrained(str(place), dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    ours = shake(DecoderLM(small_config(positions="learned").replace(vocab_size=270)))
    save_model(tmp_path / "ours", ours, BPETokenizer.train("to be or not to be " * 9, vocab_size=260))
    assert torch.equal(load_pretrained(tmp_path / "ours")[0](IDS).logits, ours(IDS).logits)
    small_file(tmp_path / "m.gguf")
    with pytest.raises(ValueError, match="has a tokenizer of kind"):  # its weights have been read
        load_pretrained(tmp_path / "m.gguf")
    with pytest.raises(ValueError, match=r"no pretrained model 'llamaa'.*hf:ORG/NAME.*\.gguf"):
        load_pretrained("llamaa")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json is damaged: it holds no object"),
        (lambda f: rewritten(f / "config.json", model_type="mixtral"), "config.json: .*a mixture of experts"),
        (
            lambda f: rewritten(f / "config.json", architectures=["LlamaForTokenClassification"]),
            "has no table of names",
        ),
        (lambda f: rewritten(f / "config.json", architectures="Llama"), "architectures='Llama' is no list"),
        (lambda f: rewritten(f / "config.json", hidden_size=32), "asks for|has shape"),
        (lambda f: rewritten(f / "config.json", vocab_size=60), "has shape"),
        (lambda f: rewritten(f / "config.json", num_hidden_layers=3), "missing .*layers.2"),
        (lambda f: rewritten(f / "config.json", rope_parameters={"rope_type": "longrope"}), "'longrope' are not read"),
        (lambda f: rewritten(f / "model.safetensors.index.json", weight_map={}), "it has no weight_map"),
        (lambda f: rewritten(f / "model.safetensors.index.json", weight_map={"a": "../x.safetensors"}), r"'\.\./x"),
        (lambda f: (f / "model-00002-of-00003.safetensors").write_bytes(b"x"), "00002-of-00003.safetensors is damaged"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(damage, message, folder):
    """A model with random weights where a file was damaged; a file outside the folder that is opened."""
    damage(folder[0])
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder[0])


def test_what_is_missing_is_named(folder):
    """A head drawn at random because the file has none; a pickle opened in place of safetensors."""
    place, model = folder
    (place / "tokenizer.json").rename(place / "tokenizer.model")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json, only tokenizer\.model"):
        load_pretrained(place)
    (place / "model-00001-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model-00001-of-00003\.safetensors is not there"):
        load_pretrained(place)
    (place / "model.safetensors.index.json").unlink()
    (place / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is a pickle, which is not read"):
        load_pretrained(place)
    weights = to_huggingface(model.state_dict(), "llama", n_layers=2)
    del weights["lm_head.weight"]
    save_file(weights, place / "model.safetensors")
    with pytest.raises(ValueError, match=r"lm_head\.weight is missing, and the settings do not say"):
        load_pretrained(place)


def test_an_index_that_lies_is_refused(folder):
    """A tensor taken from another file than the index names, or one of two."""
    place, _ = folder
    index = place / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    name = next(n for n, file in places.items() if "00001" in file)
    rewritten(index, weight_map={**places, name: "model-00002-of-00003.safetensors"})
    with pytest.raises(ValueError, match=f"holds {name}, which .*index.json places in"):
        load_pretrained(place)
    rewritten(index, weight_map={**places, "more": "model-00002-of-00003.safetensors"})
    with pytest.raises(ValueError, match="names more, which model-00002-of-00003"):
        load_pretrained(place)


def test_a_tied_setting_beside_another_head(folder):
    """A head of its own dropped because the settings say that there is none."""
    place, model = folder
    rewritten(place / "config.json", tie_word_embeddings=True)
    ours, _ = load_pretrained(place)
    assert not ours.config.tie_embeddings
    assert torch.equal(ours(IDS).logits, model(IDS).logits)


def test_a_tokenizer_of_another_model_is_refused(folder):
    """Ids that the model's table does not have, found out by an index error in the middle of a text."""
    place, _ = folder
    values = json.loads((place / "tokenizer.json").read_text())
    values["model"]["vocab"]["w60"] = 61
    (place / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="vocabulary of 61 and the tokenizer one of 62"):
        load_pretrained(place)


# --- fetching -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A stand-in for the Hub that has one repository, org/small, and remembers which files it was asked for."""
    place, asked = folder[0], []
    save_file({"x": torch.zeros(1)}, place / "consolidated.safetensors")  # what some repositories hold as well

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_GET(self):
            path = self.path.partition("?")[0]
            if "none" in path:
                return self.answer(404, b"{}", X_Error_Code="RevisionNotFound" if "small" in path else "RepoNotFound")
            if path.startswith("/api/models/org/small/tree/"):
                files = [
                    {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0"}
                    for p in sorted(place.iterdir())
                ]
                return self.answer(200, json.dumps(files).encode(), Content_Type="application/json")
            if path.startswith("/api/models/org/small"):
                files = [{"rfilename": p.name} for p in sorted(place.iterdir())]
                about = {
                    "id": "org/small",
                    "modelId": "org/small",
                    "sha": COMMIT,
                    "siblings": files,
                    "private": False,
                }
                return self.answer(200, json.dumps(about).encode(), Content_Type="application/json")
            name = path.rsplit("/", 1)[-1]
            if not path.startswith("/org/small/resolve/") or not (place / name).is_file():
                return self.answer(404, b"{}", X_Error_Code="EntryNotFound")
            content = (place / name).read_bytes()
            if self.command == "GET":
                asked.append(name)
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.answer(200, content, ETag=etag, X_Repo_Commit=COMMIT, Accept_Ranges="bytes")

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield asked
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_fetched_and_kept(hub, folder):
    """Files that no reader needs fetched as well, gigabytes of them; everything fetched again the second time."""
    ours, tokenizer = load_pretrained("hf:org/small")
    assert torch.equal(ours(IDS).logits, folder[1](IDS).logits)
    assert tokenizer.encode("w3") == [3]
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    settings = ["config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(hub) == sorted([*shards, *settings])
    hub.clear()
    again, _ = load_pretrained("hf:org/small@main")
    assert torch.equal(again(IDS).logits, ours(IDS).logits)
    assert not hub


def test_what_cannot_be_fetched_is_said_in_one_way(hub, monkeypatch):
    """A traceback of an HTTP library, or one that does not say what to do."""
    for name in ("org/none", "a b/c", "org/small@none"):
        with pytest.raises(SourceError, match="What to do: connect to the Hub") as error:
            load_pretrained(f"hf:{name}")
        assert f"model {name}" in str(error.value)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="What to do: connect to the Hub"):
        load_pretrained("hf:org/other")
