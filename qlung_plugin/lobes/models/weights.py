"""Finding published weights and loading them, every tensor accounted for.

Authors
 * qlung_plugin contributors
"""

import hashlib
import http.client
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

logger = logging.getLogger(__name__)

WRAPPER = "module."  # of torch.nn.DataParallel


def asked_weights(pretrained_weights: Path | str | None) -> Path | str | None:
    """The weights, or None if none are asked for: a command line says ``none``."""
    return None if str(pretrained_weights) == "none" else pretrained_weights


def fetch_weights(
    pretrained_weights: Path | str | None,
    published: Mapping[str, tuple[str, str | None]],
) -> Path | None:
    """The local path of weights, downloaded once if they are a published name.

    None, if none are asked for. ``published`` has by name the address of a file
    and its SHA-256, or MD5, in hexadecimal; None where neither is known. It is a
    FileNotFoundError if the weights are neither a file nor a published name, a
    ConnectionError if they cannot be downloaded, and a ValueError if they have
    another checksum.
    """
    weights = asked_weights(pretrained_weights)
    if weights is None or os.path.isfile(weights):
        return None if weights is None else Path(weights)
    if weights not in published:
        raise FileNotFoundError(
            f"pretrained_weights={str(weights)!r} is neither a file nor one of"
            f" {', '.join(published)}; pass `none` for random initialisation"
        )
    url, checksum = published[str(weights)]
    filename = url.split("?")[0].rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / filename
    if not path.exists():
        _download(url, path)
    _verify(path, checksum)
    return path


def _download(url: str, path: Path) -> None:
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


def _verify(path: Path, checksum: str | None) -> None:
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


def without_wrapper(
    tensors: Mapping[str, torch.Tensor],
) -> Mapping[str, torch.Tensor]:
    """Named tensors without the prefix that DataParallel puts before each.

    They stay as they are, unless all names have the prefix.
    """
    if not all(name.startswith(WRAPPER) for name in tensors):
        return tensors
    return {name.removeprefix(WRAPPER): t for name, t in tensors.items()}


def check_architecture(
    origin: Path | str, theirs: Mapping[str, object], ours: Mapping[str, object]
) -> None:
    """Raises a ValueError if weights are of another architecture than ours.

    The fields that are compared are those of ours.
    """
    differing = [
        f"{field} {theirs.get(field)!r} instead of {value!r}"
        for field, value in ours.items()
        if theirs.get(field) != value
    ]
    if differing:
        raise ValueError(
            f"{origin} is of another architecture: {', '.join(differing)}. Pass"
            " what differs from the default as config"
        )


def load_every_tensor(
    module: nn.Module,
    tensors: Iterable[tuple[str, torch.Tensor]],
    origin: Path | str,
    hint: str,
) -> None:
    """Loads tensors, named as in ``module.state_dict()``, into a module.

    If a tensor occurs twice, is missing, unknown or of another shape, it is a
    ValueError that names the origin and the first three; the hint says what to
    look at.
    """
    state: dict[str, torch.Tensor] = {}
    problems = []
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
