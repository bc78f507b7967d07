"""Two processes, by DDP and by FSDP2, against one: same gradients, losses, weights, stops and resumed runs."""

import json
import shutil

import pytest
import torch

from llmbook.parallel.ranks import RankError, run_ranks
from llmbook.training import CheckpointError, Runtime, TrainConfig
from llmbook.training.distributed import engines, load_sharded, load_trained, make_parallel, process_group
from llmbook.training.parallel import find_checkpoint
from tests.ranks import run_ranks_once_more
from tests.training.distributed import worker

pytestmark = pytest.mark.xdist_group("engines")  # what a fixture of the module makes is dear: one worker

BOTH = pytest.mark.parametrize("kind", ["ddp", "fsdp"])
CLOSE = dict(rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two(folder, one):
    """What two processes saw. Before, a sharded run in ``folder/killed`` has been killed after step 4, and the first
    half of a run has been laid down by one process: as a file for DDP, and sharded for FSDP."""
    with pytest.raises(RankError, match=r"exit code (-9|15)"):
        run_ranks(worker.killed, 2, str(folder / "killed"))
    assert find_checkpoint(folder / "killed", "last").name == "last-000003.dcp"
    return run_ranks_once_more(worker.everything, 2, str(folder), folder=folder, timeout=300)


@pytest.fixture(scope="module")
def one(folder):
    """History and weights of one process; beside, what it has kept of its third step."""
    keep_half = worker.SaveHalf()
    trainer = keep_half.trainer = worker.make_trainer(folder=folder / "one", callbacks=[keep_half])
    history = trainer.run()
    (folder / "one-ddp").mkdir()
    shutil.copy(folder / "one/half.pt", folder / "one-ddp/last.pt")
    with process_group():
        sharded = worker.make_trainer(make_parallel("fsdp"), folder / "one-sharded", callbacks=[keep_half])
        keep_half.trainer = sharded
        sharded.run()
    shutil.copytree(folder / "one-sharded/half-000003.dcp", folder / "one-fsdp/last-000003.dcp")
    return history, worker.weights(trainer.model)


@BOTH
def test_gradients_are_those_of_one_process(two, kind):
    """Catches means averaged over processes with unequal targets, a forgotten division or one too many, and a first
    micro-batch whose gradient never travels."""
    alone = worker.gradients()
    for seen in (rank[kind]["step"] for rank in two):
        torch.testing.assert_close(seen, alone, **CLOSE)


@BOTH
def test_gradients_of_a_modern_model_are_those_of_one_process(two, kind):
    """Catches a short convolution whose gradient does not travel, or whose rows, fewer than the processes could share
    evenly, end on the wrong shard; and the same for the gains of queries and keys."""
    alone = worker.gradients(shape=worker.MODERN)
    assert all(gradient.abs().max() > 1e-3 for gradient in alone["gradients"])
    for seen in (rank[kind]["modern step"] for rank in two):
        torch.testing.assert_close(seen, alone, **CLOSE)


@BOTH
@pytest.mark.parametrize("mistake", worker.MISTAKES)
def test_gradients_divided_wrongly_are_noticed(two, kind, mistake):
    """Catches the test above becoming blind: the division by the number of processes not taken back, or each process
    dividing by its own targets, makes it fail."""
    wrong = [{kind: {"step": rank[kind]["mistaken"][mistake]}} for rank in two]
    with pytest.raises(AssertionError, match="gradients"):
        test_gradients_are_those_of_one_process(wrong, kind)


@BOTH
def test_a_whole_run_is_that_of_one_process(two, one, kind):
    """Catches a norm taken over one shard alone (clipping acts here), weights that start different on the ranks,
    moments of the wrong parameter, and validation batches counted twice or left out."""
    history, expected = one
    for seen in (rank[kind] for rank in two):
        for name in ("train_loss", "valid_loss", "grad_norm"):
            torch.testing.assert_close(seen["history"][name], getattr(history, name), **CLOSE)
        assert seen["history"]["tokens"] == history.tokens
        assert min(history.grad_norm) > 0.5  # the limit: every step was clipped
        torch.testing.assert_close(seen["weights"], expected, **CLOSE)


@BOTH
def test_validation_is_shared(two, kind):
    """Catches every process evaluating everything: two of three batches each, the last one twice, at steps 0, 3, 6."""
    assert [rank[kind]["evaluated"] for rank in two] == [6, 6]


def test_shares_are_disjoint_and_together_the_whole_batch(two):
    """Catches both ranks reading the same rows, and targets so even that an average of means would pass."""
    whole = worker.UnevenBatches().batch(0)
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([rank["rows"][name] for rank in two]), tensor)
    first, second = ((rank["rows"]["labels"] != -100).sum() for rank in two)
    assert second > 3 * first
    assert two[0]["odd rows"].startswith("ValueError: 2 processes cannot share 3 rows evenly")


@BOTH
def test_interrupting_one_process_stops_all_and_the_run_resumes_bit_for_bit(two, kind):
    """Catches ranks that stop at different steps, and a checkpoint without moments, data position or each rank's own
    random state: dropout is on."""
    for seen in (rank[kind] for rank in two):
        assert seen["stopped_at"] == 2
        assert seen["resumed"][0] == seen["straight"][0]
        torch.testing.assert_close(seen["resumed"][1], seen["straight"][1], rtol=0, atol=0)


def test_kill_9_and_resume_bit_for_bit(two):
    """Catches a checkpoint that is complete only when the run ends well."""
    losses, expected = two[0]["fsdp"]["straight"]
    assert two[0]["killed"][0] == losses
    torch.testing.assert_close(two[0]["killed"][1], expected, rtol=0, atol=0)


@BOTH
def test_nan_on_one_process_stops_all_with_one_message(two, kind):
    """Catches a loss checked before it is summed: the healthy rank would wait for ever."""
    messages = {rank[kind]["nan"] for rank in two}
    assert len(messages) == 1
    assert messages.pop().startswith("TrainingError: loss nan, gradient norm nan at step 4 with learning rate")


@BOTH
def test_the_advice_after_divergence_works_for_shards(two, folder, kind):
    """Catches advice that the sharded checkpoint does not follow, one shard's weights taken by all, weights read too
    late to be evaluated, and a new run that begins at the old one's step."""
    good = dict(load_trained(find_checkpoint(folder / kind, "half")).state_dict())  # the same run, while it was well
    for seen in (rank[kind] for rank in two):
        begun, history = seen["mended"]
        torch.testing.assert_close(begun, good, rtol=0, atol=0)
        assert history["steps"] == [1, 2, 3, 4, 5, 6]
        assert history["valid_loss"][0] == seen["history"]["valid_loss"][1]


@BOTH
def test_the_model_alone_opens_in_one_call(two, folder, kind):
    """Catches weights stored under the wrapper's names, and shards put together in the wrong order."""
    path = find_checkpoint(folder / kind, "last")
    assert path.name == "last-000006.dcp"
    torch.testing.assert_close(dict(load_trained(path).state_dict()), two[0][kind]["weights"], rtol=0, atol=0)


@BOTH
@pytest.mark.parametrize("by", ["none", "fsdp"])
def test_a_run_of_two_goes_on_with_one(two, one, folder, tmp_path, kind, by):
    """Catches shards that only their writers can read, and batches counted per process: resharded in the middle, the
    run ends as if one process had made all of it."""
    shutil.copytree(find_checkpoint(folder / kind, "half"), tmp_path / "run" / "last-000003.dcp")
    with process_group():
        trainer = worker.make_trainer(make_parallel(by), tmp_path / "run", seed=9)
        trainer.resume(find_checkpoint(tmp_path / "run", "last"))
        assert trainer.step == 3
        history = trainer.run()
        ended = worker.weights(trainer.model)
    torch.testing.assert_close(history.train_loss, one[0].train_loss, **CLOSE)
    torch.testing.assert_close(ended, one[1], **CLOSE)
    assert find_checkpoint(tmp_path / "run", "last").name == {"none": "last.pt", "fsdp": "last-000006.dcp"}[by]


@BOTH
def test_a_run_of_one_goes_on_with_two(two, one, folder, kind):
    """Catches a checkpoint read by the first process alone, one whole shard taken for the half of it, and a file of
    one process left beside the folder that follows it, to be mistaken for the latest."""
    for seen in (rank[kind]["grown"] for rank in two):
        torch.testing.assert_close(seen[0], one[0].train_loss, **CLOSE)
        torch.testing.assert_close(seen[1], one[1], **CLOSE)
    assert [path.name for path in sorted((folder / f"one-{kind}").glob("last*"))] == ["last-000006.dcp"]


def test_the_file_of_one_process_is_refused_by_shards(two):
    """Catches whole tensors loaded into sharded ones, which fails without a word about the way out."""
    for said in (rank["one file"] for rank in two):
        assert said.startswith("CheckpointError: ")
        assert said.endswith("one/half.pt was written by one process: resume it with parallel='ddp' or 'none'")


def test_muon_on_two_processes_is_muon_on_one(two):
    """Catches directions taken from one process's own gradient, which differ from rank to rank, and an optimiser with
    two methods whose averages do not come back from the checkpoint in the middle; short convolutions included."""
    trainer = worker.make_trainer(optimizer="muon", shape=worker.MODERN)
    losses, expected = trainer.run().train_loss, worker.weights(trainer.model)
    for seen in (rank["ddp"]["muon"] for rank in two):
        assert seen[0] == 3
        torch.testing.assert_close(seen[1], losses, **CLOSE)
        torch.testing.assert_close(seen[2], expected, rtol=0, atol=1e-5)  # small singular values enlarge rounding


def test_damaged_and_foreign_folders_are_refused_by_name(two, folder, tmp_path):
    """Catches half a checkpoint taken for a whole one, and a foreign folder unpickled before it is looked at."""
    whole = find_checkpoint(folder / "fsdp", "last")
    damages = {
        "truncated or changed": lambda path: (path / "__1_0.distcp").write_bytes(b"short"),
        r"__0_0.distcp is missing": lambda path: (path / "__0_0.distcp").unlink(),
        "is not a sharded checkpoint": lambda path: (path / "manifest.json").write_text("[]"),
        "format version 99": lambda path: (path / "manifest.json").write_text(
            json.dumps(json.loads((path / "manifest.json").read_text()) | {"version": 99})
        ),
    }
    for number, (message, damage) in enumerate(damages.items()):
        path = shutil.copytree(whole, tmp_path / f"last-{number:06}.dcp")
        damage(path)
        with pytest.raises(CheckpointError, match=message) as refused:
            load_trained(path)
        assert path.name in str(refused.value)


def test_another_model_is_refused_before_anything_changes(two, folder):
    """Catches shards copied into a model they do not fit, tensor by tensor until the first one fails."""
    model = worker.small_model(seed=3)
    model.backbone.blocks.pop(1)
    before = worker.weights(model)
    with pytest.raises(CheckpointError, match=r"belongs to another model: backbone.blocks.1\..* is unknown here"):
        load_sharded(find_checkpoint(folder / "fsdp", "last"), model)
    torch.testing.assert_close(worker.weights(model), before, rtol=0, atol=0)


def test_a_layer_hears_of_weights_read_from_shards(two, folder):
    """Catches values put in place behind the backs of layers that keep something made from the old ones."""
    model, heard = worker.small_model(seed=3), []
    model.backbone.blocks[1].register_load_state_dict_post_hook(lambda layer, _: heard.append(layer.state_dict()))
    path = find_checkpoint(folder / "fsdp", "last")
    load_sharded(path, model)
    torch.testing.assert_close(
        dict(heard[-1]), dict(load_trained(path).backbone.blocks[1].state_dict()), rtol=0, atol=0
    )


def test_what_sharding_cannot_do_is_refused():
    """Catches Muon orthogonalising a slice of a matrix as if it were the matrix, and float16 steps that one process
    skips and another takes."""
    with process_group():
        fsdp = make_parallel("fsdp")
        with pytest.raises(ValueError, match="optimizer='muon' needs whole matrices"):
            worker.make_trainer(fsdp, optimizer="muon")
        with pytest.raises(ValueError, match="float16 under FSDP"):
            fsdp.check(TrainConfig(steps=1), Runtime(torch.device("cpu"), torch.float16, "as asked"))


def test_a_checkpoint_that_cannot_be_written_leaves_the_former(tmp_path):
    """Catches DCP's own exception, which no ``except Exception`` stops, and a former checkpoint lost on the way."""
    with process_group():
        trainer = worker.make_trainer(make_parallel("ddp"), tmp_path)
        trainer.run()
        former = find_checkpoint(tmp_path, "last")
        (tmp_path / ".last.tmp").write_text("in the way")
        trainer.state.step += 1
        with pytest.raises(CheckpointError, match=r"could not write .*last-000007.dcp.*former checkpoint is untouched"):
            trainer.save("last.pt")
    assert find_checkpoint(tmp_path, "last") == former
    assert load_trained(former).num_parameters() > 0


def test_sharding_names_the_torch_it_needs(monkeypatch):
    """Catches an import error in the middle of somebody's run on an older torch, DDP's users included."""
    monkeypatch.setattr(engines, "fully_shard", None)
    with process_group():
        assert make_parallel("ddp").world_size == 1
        with pytest.raises(ValueError, match=r"parallel='fsdp' needs torch 2.6 or newer, and this is .*: use 'ddp'"):
            make_parallel("fsdp")


def test_an_engine_without_processes_says_how_to_start_them():
    """Catches the bare error of torch.distributed, and a misspelt engine taken for none."""
    with pytest.raises(ValueError, match="parallel='ddp' needs a process group: start with torchrun"):
        make_parallel("ddp")
    with pytest.raises(ValueError, match="parallel='dpp' is not one of 'none', 'ddp', 'fsdp'"):
        make_parallel("dpp")
