"""Two processes evaluate what one does, each a part.

Authors
 * qlung_plugin contributors
"""

import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from qlung_plugin.scores.icbhi_score import RespiratoryScore
from qlung_plugin.training.checkpoints import CompleteCheckpointer
from qlung_plugin.training.distribution import shard, wrap_on_cpu
from speechbrain.dataio.dataset import DynamicItemDataset

pytestmark = pytest.mark.slow  # two processes

TRUTH = [0, 1, 2, 3, 0, 1, 0]


def probabilities():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(len(TRUTH), 4, generator=generator).softmax(dim=1)


def dataset():
    return DynamicItemDataset({f"cycle_{i}": {} for i in range(len(TRUTH))})


def evaluated(part):
    """The predictions of a part of the data, gathered if there are others."""
    score = RespiratoryScore()
    for name in part.data_ids:
        i = int(name.removeprefix("cycle_"))
        score.append(
            [name], probabilities()[i : i + 1], torch.tensor(TRUTH[i : i + 1])
        )
    score.gather()
    return score


def checkpoints_seen(folder):
    """How many each process finds after saving twice, when the main is slow."""
    checkpointer = CompleteCheckpointer(folder, {"model": nn.Linear(1, 1)})
    touch = Path.touch

    def touch_late(path):
        time.sleep(0.3)
        touch(path)

    Path.touch = touch_late
    seen = []
    for _ in range(2):
        checkpointer.save_checkpoint()
        seen.append(len(checkpointer.list_checkpoints()))
    Path.touch = touch
    return seen


def _worker(rank, processes, folder):
    os.environ["RANK"] = str(rank)  # as torchrun does: SpeechBrain looks there
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=processes,
    )
    part = shard(dataset())
    score = evaluated(part)
    modules = nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
            "features": nn.Flatten(),
        }
    )
    with torch.no_grad():
        modules["backbone"][0].weight.fill_(float(rank))
        modules["backbone"][0].bias.fill_(0.0)
    wrap_on_cpu(modules)
    backbone = modules["backbone"]
    inputs = torch.tensor([[1.0, 2.0], [3.0, 5.0]]) + rank
    backbone(inputs).pow(3).sum().backward()
    torch.save(
        {
            "ids": part.data_ids,
            "checkpoints": checkpoints_seen(f"{folder}/checkpoints"),
            "gathered": sorted(score.ids),
            "summary": score.summarize(),
            "cross_entropy": score.cross_entropy(),
            "wrapped": [
                name
                for name, module in modules.items()
                if isinstance(module, DistributedDataParallel)
            ],
            "kind": type(backbone.module[1]).__name__,
            "weight": backbone.module[0].weight.detach(),
            "gradient": backbone.module[0].weight.grad,
        },
        f"{folder}/{rank}.pt",
    )
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What each of two processes came to."""
    folder = tmp_path_factory.mktemp("processes")
    # They import SpeechBrain once for all.
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["speechbrain"])
    started = [
        context.Process(target=_worker, args=(rank, 2, str(folder)))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(600)
        assert process.exitcode == 0
    return [
        torch.load(folder / f"{rank}.pt", weights_only=True)
        for rank in range(2)
    ]


def test_each_item_is_in_one_shard(processes):
    ids = [name for results in processes for name in results["ids"]]
    assert sorted(ids) == sorted(dataset().data_ids)
    sizes = [len(results["ids"]) for results in processes]
    assert sizes == [4, 3]


def test_all_processes_have_the_metrics_of_the_whole(processes):
    whole = evaluated(dataset())
    for results in processes:
        assert results["gathered"] == sorted(whole.ids)
        assert results["summary"] == whole.summarize()
        assert results["cross_entropy"] == pytest.approx(whole.cross_entropy())


def test_all_processes_see_a_checkpoint_once_it_is_saved(processes):
    # They delete those that they see, together: different ones are a deadlock.
    assert [results["checkpoints"] for results in processes] == [[1, 2]] * 2


def test_a_single_process_has_the_whole():
    whole = dataset()
    assert shard(whole) is whole


def test_trained_modules_are_wrapped_and_normalisation_stays(processes):
    for results in processes:
        assert results["wrapped"] == ["backbone"]
        assert results["kind"] == "BatchNorm1d"
        # They start from the first process's weights and share gradients.
        assert torch.equal(results["weight"], torch.zeros(2, 2))
        assert torch.equal(results["gradient"], processes[0]["gradient"])
