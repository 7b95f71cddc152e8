"""What SpeechBrain's Brain leaves to do in a distributed run.

Authors
 * qlung_plugin contributors
"""

import torch
from torch.nn.parallel import DistributedDataParallel

from speechbrain.dataio.dataset import (
    DynamicItemDataset,
    FilteredSortedDynamicItemDataset,
)
from speechbrain.utils.distributed import is_distributed_initialized


def shard(dataset: DynamicItemDataset) -> DynamicItemDataset:
    """The part of a dataset that this process evaluates.

    SpeechBrain shards the training set alone. ``RespiratoryScore.gather`` collects
    the predictions, of which no metric counts one twice.
    """
    if not is_distributed_initialized():
        return dataset
    processes = torch.distributed.get_world_size()
    own = dataset.data_ids[torch.distributed.get_rank() :: processes]
    return FilteredSortedDynamicItemDataset(dataset, own)


def wrap_on_cpu(
    modules: torch.nn.ModuleDict, find_unused_parameters: bool = False
) -> None:
    """Wraps what is trained, in place, for a distributed run on CPUs.

    SpeechBrain turns every batch normalisation into SyncBatchNorm, which has
    no CPU form. Here it stays as it is: each process normalises by its own
    batch, and the running statistics are those of the first process.
    """
    for name, module in modules.items():
        if any(parameter.requires_grad for parameter in module.parameters()):
            modules[name] = DistributedDataParallel(
                module, find_unused_parameters=find_unused_parameters
            )
