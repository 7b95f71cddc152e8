"""What SpeechBrain's Brain leaves to do in a distributed run.

Authors
 * qlung_plugin contributors
"""

import torch
from speechbrain.dataio.dataset import FilteredSortedDynamicItemDataset
from speechbrain.utils.distributed import is_distributed_initialized
from torch.nn.parallel import DistributedDataParallel


def shard(dataset):
    """The part of a dataset that this process evaluates.

    SpeechBrain shards the training set alone: everything else would be
    evaluated on every process. Every item is in exactly one shard, so that no
    metric counts one twice; :meth:`RespiratoryScore.gather
    <qlung_plugin.scores.icbhi_score.RespiratoryScore.gather>` collects the
    predictions.

    Arguments
    ---------
    dataset : speechbrain.dataio.dataset.DynamicItemDataset
        The whole.

    Returns
    -------
    speechbrain.dataio.dataset.DynamicItemDataset
        Every n-th item of n processes; the whole if there is one.

    Example
    -------
    >>> from speechbrain.dataio.dataset import DynamicItemDataset
    >>> dataset = DynamicItemDataset({"a": {}, "b": {}})
    >>> len(shard(dataset))  # a single process
    2
    """
    if not is_distributed_initialized():
        return dataset
    processes = torch.distributed.get_world_size()
    own = dataset.data_ids[torch.distributed.get_rank() :: processes]
    return FilteredSortedDynamicItemDataset(dataset, own)


def wrap_on_cpu(modules, find_unused_parameters=False):
    """Wraps what is trained for a distributed run on CPUs.

    SpeechBrain turns every batch normalisation into SyncBatchNorm, which has
    no CPU form. Here it stays as it is: each process normalises by its own
    batch, and the running statistics are those of the first process.

    Arguments
    ---------
    modules : torch.nn.ModuleDict
        Wrapped in place.
    find_unused_parameters : bool
        See :class:`torch.nn.parallel.DistributedDataParallel`.
    """
    for name, module in modules.items():
        if any(parameter.requires_grad for parameter in module.parameters()):
            modules[name] = DistributedDataParallel(
                module, find_unused_parameters=find_unused_parameters
            )
