"""Unlabelled adaptation to the devices of a database that is evaluated.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Mapping

import torch
from torch import nn

BUFFERS = ("mean", "deviation")


def check_standardises(backbone: nn.Module) -> None:
    """Refuses a backbone without the statistics of its training's embeddings."""
    known = dict(backbone.named_buffers(recurse=False))
    if not set(BUFFERS) <= set(known):
        raise ValueError(
            f"standardise_devices: the model's backbone, {type(backbone).__name__},"
            " does not standardise embeddings. It needs one that keeps the mean and"
            " deviation of those it was trained on, such as hparams/transfer.yaml's"
        )


def standardise_by_device(
    backbone: nn.Module,
    embeddings: Mapping[str, torch.Tensor],
    devices: Mapping[str, str | None],
) -> dict[str, torch.Tensor]:
    """Gives the embeddings of each device the statistics of the training's.

    Of each dimension, mean and standard deviation over all cycles of a device
    become those that the backbone was fitted to. No label is looked at, but all
    cycles are, so that a cycle's result depends on the others: adaptation.

    Arguments
    ---------
    backbone : nn.Module
        With buffers ``mean`` and ``deviation``, ``[dim]``.
    embeddings : mapping
        ``[1, dim]`` by the id of a cycle, as they go into the backbone.
    devices : mapping
        The device by the id of a cycle; None of all is one device.

    Returns
    -------
    dict
        Embeddings ``[1, dim]`` by id. Where all of a device are alike, they are
        the training's mean.

    Raises
    ------
    ValueError
        If the backbone has no such buffers, or the device of some is not known.

    Example
    -------
    >>> backbone = nn.Module()
    >>> backbone.register_buffer("mean", torch.tensor([1.0]))
    >>> backbone.register_buffer("deviation", torch.tensor([2.0]))
    >>> cycles = {"a": torch.tensor([[30.0]]), "b": torch.tensor([[50.0]])}
    >>> moved = standardise_by_device(backbone, cycles, {"a": "X", "b": "X"})
    >>> moved["a"].item(), moved["b"].item()
    (-1.0, 3.0)
    """
    check_standardises(backbone)
    members: dict[str | None, list[str]] = {}
    for key in embeddings:
        members.setdefault(devices[key] or None, []).append(key)
    unknown = members.get(None, [])
    if 0 < len(unknown) < len(embeddings):
        raise ValueError(
            f"standardise_devices: of {len(unknown)} cycles the device is"
            f" unknown, such as of {unknown[0]}"
        )
    mean = backbone.get_buffer("mean").double().cpu()
    deviation = backbone.get_buffer("deviation").double().cpu()
    moved: dict[str, torch.Tensor] = {}
    for keys in members.values():
        rows = torch.stack([embeddings[key] for key in keys]).double()
        spread = rows.std(dim=0, correction=0)
        # What is constant but for rounding is no signal to be blown up.
        constant = rows.amax(dim=0) == rows.amin(dim=0)
        spread = spread.masked_fill(constant, torch.inf)
        rows = (rows - rows.mean(dim=0)) / spread * deviation + mean
        moved.update(zip(keys, rows.float()))
    return moved
