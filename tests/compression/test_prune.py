"""Magnitude pruning: PyTorch's own masks, the 2:4 pattern, and zeros that stay zeros during training."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as reference

from llmbook.compression import HoldMasks, Masks, largest, prune_by_magnitude, prune_two_of_four, two_of_four
from llmbook.training import Callback, TrainConfig, Trainer, choose_runtime
from tests.compression.helpers import noisy_counting, tiny_lm


def uneven_lm() -> nn.Module:
    """Layers of different size, so that comparing all weights differs from comparing each layer's."""
    model = tiny_lm()
    with torch.no_grad():
        model.backbone.blocks[0].feed_forward.up_proj.weight.mul_(3)
        model.backbone.blocks[1].attention.v_proj.weight.mul_(0.2)
    return model


def linear_parameters(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    return {
        f"{name}.weight": (module, "weight")
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_masks_are_pytorchs(sparsity):
    """Catches the largest removed instead of the smallest, a share of the wrong set, and a miscounted share."""
    for scope in ("global", "layer"):
        masks = prune_by_magnitude(uneven_lm(), sparsity=sparsity, scope=scope)
        theirs = uneven_lm()
        parameters = linear_parameters(theirs)
        if scope == "global":
            reference.global_unstructured(
                list(parameters.values()), pruning_method=reference.L1Unstructured, amount=sparsity
            )
        else:
            for module, name in parameters.values():
                reference.l1_unstructured(module, name, amount=sparsity)
        assert masks.kept.keys() == parameters.keys()
        for name, (module, _) in parameters.items():
            assert torch.equal(masks.kept[name], module.weight_mask.bool()), (scope, name)
        assert masks.sparsity == pytest.approx(sparsity, abs=1e-3)


def test_what_is_masked_is_zero_and_the_rest_untouched():
    """Catches masks that are made and not applied, inverted masks, and norms or the token table pruned along."""
    model, before = uneven_lm(), uneven_lm().state_dict()
    masks = prune_by_magnitude(model, sparsity=0.5)
    for name, weight in model.state_dict().items():
        expected = before[name] * masks.kept[name] if name in masks.kept else before[name]
        assert torch.equal(weight, expected), name


def test_two_of_four_keeps_the_larger_pair_of_every_four():
    """Catches fours cut down the columns, and two kept of eight rather than of four."""
    weight = torch.tensor([[1.0, -5.0, 2.0, 0.5, 9.0, 8.0, 7.0, -10.0], [0.1, 0.2, -0.4, 0.3, -1.0, 0.0, 0.0, 2.0]])
    kept = [[0, 1, 1, 0, 1, 0, 0, 1], [0, 0, 1, 1, 1, 0, 0, 1]]
    assert two_of_four(weight).int().tolist() == kept
    model = tiny_lm()
    masks = prune_two_of_four(model)
    assert masks.sparsity == 0.5
    weight = model.backbone.blocks[1].feed_forward.down_proj.weight
    assert ((weight.view(-1, 4) != 0).sum(1) == 2).all()
    assert model.lm_head.weight.count_nonzero() == model.lm_head.weight.numel()


def test_equal_magnitudes_still_give_the_share():
    """Catches a threshold in place of a count: among equal weights it would remove all or none."""
    assert int(largest(torch.ones(4, 5), 0.35).sum()) == 13


class Endless:
    def __init__(self):
        self.batches = noisy_counting(8)

    def __iter__(self):
        while True:
            yield from self.batches


def trainer(model: nn.Module, *callbacks) -> Trainer:
    config = TrainConfig(steps=4, lr=1e-2, warmup_steps=1, log_every=3)
    return Trainer(model, Endless(), config, callbacks=callbacks, runtime=choose_runtime("cpu"))


def test_pruned_weights_stay_zero_after_every_step():
    """Catches a mask that is not applied again after the step: momentum and weight decay move every weight."""
    model = tiny_lm()
    masks = prune_by_magnitude(model, sparsity=0.6)
    before = {name: model.get_parameter(name).clone() for name in masks.kept}
    run = trainer(model, HoldMasks(masks))
    zeros = []  # read inside the step, after the callback's own hook

    def look(*_):
        zeros.append(all((model.get_parameter(name)[~kept] == 0).all() for name, kept in masks.kept.items()))

    class Look(HoldMasks):
        def on_start(self, trainer):
            trainer.optimizer.register_step_post_hook(look)

    run.callbacks = (*run.callbacks, Look(masks))
    run.run()
    assert zeros == [True] * 4
    for name, kept in masks.kept.items():
        assert (model.get_parameter(name)[kept] != before[name][kept]).any(), "the rest did not train"
    free = tiny_lm()
    masks.apply_to(free)
    trainer(free).run()
    assert all((free.get_parameter(name)[~kept] != 0).any() for name, kept in masks.kept.items())


def test_the_hold_ends_with_a_run_that_breaks_off():
    """Catches the hook that an error leaves on the optimiser."""

    class Crash(Callback):
        def on_log(self, trainer, step):
            raise RuntimeError("crash")

    model = tiny_lm()
    masks = prune_by_magnitude(model, sparsity=0.5)
    hold = HoldMasks(masks)
    with pytest.raises(RuntimeError, match="crash"):
        trainer(model, hold, Crash()).run()
    assert hold._hook is None


def test_the_hold_ends_with_the_run():
    """Catches a hook left on the optimiser: later training of the same model would be masked for ever."""
    model = tiny_lm()
    masks = prune_by_magnitude(model, sparsity=0.5)
    run = trainer(model, HoldMasks(masks))
    run.run()
    name, kept = next(iter(masks.kept.items()))
    model.get_parameter(name).grad = torch.ones_like(model.get_parameter(name))
    run.state.optimizer.step()
    assert (model.get_parameter(name)[~kept] != 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: prune_by_magnitude(m, sparsity=1.0), "sparsity=1.0"),
        (lambda m: prune_by_magnitude(m, sparsity=-0.1), "sparsity=-0.1"),
        (lambda m: prune_by_magnitude(m, sparsity=0.5, scope="row"), "scope='row'"),
        (lambda m: prune_by_magnitude(m, sparsity=0.5, skip=("embed",)), "skip names 'embed'"),
        (lambda m: prune_two_of_four(m, skip=("backbone", "lm_head")), "no linear layer is left"),
        (lambda m: two_of_four(torch.ones(2, 6)), "rows of 6 weights do not divide into fours"),
    ],
)
def test_what_cannot_be_pruned_is_refused(call, message):
    """Catches a share above all and names that match nothing."""
    with pytest.raises(ValueError, match=message):
        call(tiny_lm())


def test_masks_know_their_share():
    """Catches a mean of shares in place of the share of all."""
    masks = Masks({"a": torch.zeros(1, 30, dtype=torch.bool), "b": torch.ones(1, 10, dtype=torch.bool)})
    assert masks.sparsity == 0.75
