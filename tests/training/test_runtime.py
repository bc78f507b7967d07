"""The choice of device and precision says what it chose and refuses what is not there."""

import pytest
import torch

from llmbook.training import Runtime, choose_runtime
from tests.training.helpers import tiny_model


def test_the_choice_is_explained():
    """Catches a choice without a reason, and 16 bits on a CPU that was not asked for them."""
    runtime = choose_runtime("cpu")
    assert runtime.dtype == torch.float32
    assert str(runtime).startswith("cpu, float32: cpu as asked; ")
    assert not runtime.grad_scaler().is_enabled()


def test_autocast_keeps_weights_in_float32():
    """Catches a runtime whose dtype is accepted and ignored: products run in bfloat16, weights stay as they are."""
    model = tiny_model()
    with choose_runtime("cpu", dtype="bfloat16").autocast():
        assert model(torch.zeros(1, 4, dtype=torch.long)).logits.dtype == torch.bfloat16
    assert model.lm_head.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16)]
)
def test_older_gpus_get_float16_with_a_scaler(monkeypatch, capability, dtype):
    """Catches bfloat16 emulated slowly on a T4, the usual GPU of free notebooks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    runtime = choose_runtime()
    assert (runtime.device.type, runtime.dtype) == ("cuda", dtype)
    assert "a GPU; compute capability" in runtime.reason
    assert Runtime(torch.device("cuda"), dtype, "").grad_scaler().is_enabled() == (dtype == torch.float16)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"device": "cuda:99"}, "device='cuda:99' is not available"),
        ({"device": "abacus"}, "device='abacus' is not a device"),
        ({"device": "cpu", "dtype": "int8"}, "dtype='int8' is unknown"),
        ({"device": "cpu", "dtype": "float16"}, "dtype='float16' needs a CUDA GPU, not cpu"),
    ],
)
def test_what_is_not_there_is_named(kwargs, message):
    """Catches a fall back to the CPU that nobody notices until the next morning."""
    with pytest.raises(ValueError, match=message):
        choose_runtime(**kwargs)
