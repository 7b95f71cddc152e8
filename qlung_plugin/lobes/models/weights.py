"""Finding published weights and loading them, every tensor accounted for.

Authors
 * qlung_plugin contributors
"""

import hashlib
import http.client
import logging
import os
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

WRAPPER = "module."  # of torch.nn.DataParallel


def is_none(pretrained_weights):
    """Whether no weights are asked for.

    Arguments
    ---------
    pretrained_weights : str, Path or None
        ``--pretrained_weights none`` arrives from a command line as a string.

    Returns
    -------
    bool

    Example
    -------
    >>> is_none("none"), is_none(None), is_none("mn04_as")
    (True, True, False)
    """
    return pretrained_weights is None or str(pretrained_weights) == "none"


def fetch_weights(pretrained_weights, published):
    """The local path of weights, downloaded once if they are a published name.

    Arguments
    ---------
    pretrained_weights : str or Path
        A file, or a name in ``published``.
    published : dict
        By name the address of a file and its SHA-256, or MD5, in hexadecimal;
        None where neither is known.

    Returns
    -------
    Path
        An existing file.

    Raises
    ------
    FileNotFoundError
        If it is neither a file nor a published name.
    ConnectionError
        If it cannot be downloaded.
    ValueError
        If the file has another checksum.

    Example
    -------
    >>> path = getfixture("tmp_path") / "weights.pt"
    >>> _ = path.write_bytes(b"")
    >>> fetch_weights(path, {}) == path
    True
    """
    if os.path.isfile(pretrained_weights):
        return Path(pretrained_weights)
    if pretrained_weights not in published:
        raise FileNotFoundError(
            f"pretrained_weights={str(pretrained_weights)!r} is neither a file"
            f" nor one of {', '.join(published)}; pass `none` for random"
            " initialisation"
        )
    url, checksum = published[pretrained_weights]
    filename = url.split("?")[0].rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / filename
    if not path.exists():
        _download(url, path)
    _verify(path, checksum)
    return path


def _download(url, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("Downloading %s to %s", url, path)
    try:
        torch.hub.download_url_to_file(url, str(path))
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"cannot download {url} ({error}). Fetch it where there is a network"
            f" and pass the file: --pretrained_weights /path/to/{path.name};"
            " or pass `--pretrained_weights none` for random initialisation"
        ) from error


def _verify(path, checksum):
    """Compares with the known checksum, else with that of the first download."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    record = path.with_suffix(".sha256")
    if checksum is None and record.exists():
        checksum = record.read_text().strip()
    if checksum is None:
        record.write_text(digest + "\n")
        logger.warning(
            "No checksum is published for %s; %s recorded in %s and checked"
            " from now on",
            path.name,
            digest,
            record,
        )
        return
    kind = "SHA-256"
    if len(checksum) == 32:  # against a bad download, not a forger
        kind = "MD5"
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != checksum:
        raise ValueError(
            f"{path} has {kind} {digest} instead of {checksum}: delete it to"
            f" download it again, and {record.name} beside it, if there is one,"
            " where the first download was the bad one"
        )


def without_wrapper(tensors):
    """Named tensors without the prefix that DataParallel puts before each.

    Arguments
    ---------
    tensors : dict
        By name.

    Returns
    -------
    dict
        The same, unless all names have the prefix.

    Example
    -------
    >>> without_wrapper({"module.weight": 1, "module.bias": 2})
    {'weight': 1, 'bias': 2}
    """
    if not all(name.startswith(WRAPPER) for name in tensors):
        return tensors
    return {name.removeprefix(WRAPPER): t for name, t in tensors.items()}


def load_every_tensor(module, tensors, origin, hint):
    """Loads named tensors into a module, unless one of either is left over.

    Arguments
    ---------
    module : torch.nn.Module
        The module to fill.
    tensors : iterable of (str, torch.Tensor)
        Names as in ``module.state_dict()``.
    origin : str or Path
        Where the tensors come from, for the message.
    hint : str
        What to look at if they do not fit, for the message.

    Raises
    ------
    ValueError
        If a tensor occurs twice, is missing, unknown or of another shape: the
        message names the first three.

    Example
    -------
    >>> layer = torch.nn.Linear(1, 1)
    >>> tensors = [("weight", torch.ones(1, 1)), ("scale", torch.ones(1))]
    >>> load_every_tensor(layer, tensors, "layer.pt", "Is it of a layer?")
    Traceback (most recent call last):
    ...
    ValueError: layer.pt does not fit Linear: 2 of its tensors differ (missing: bias; unknown: scale). Is it of a layer?
    """
    state, problems = {}, []
    for name, tensor in tensors:
        if name in state:
            problems.append(f"twice: {name}")
        state[name] = tensor
    expected = module.state_dict()
    problems += [f"missing: {name}" for name in expected if name not in state]
    problems += [f"unknown: {name}" for name in state if name not in expected]
    problems += [
        f"{name}: {tuple(state[name].shape)} in the file,"
        f" {tuple(tensor.shape)} in the model"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        raise ValueError(
            f"{origin} does not fit {type(module).__name__}: {len(problems)} of"
            f" its tensors differ ({'; '.join(problems[:3])}). {hint}"
        )
    module.load_state_dict(state)
