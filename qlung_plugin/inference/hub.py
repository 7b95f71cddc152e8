"""Exported models on the Hugging Face hub.

Authors
 * qlung_plugin contributors
"""

import re
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import filter_repo_objects

from qlung_plugin.inference.safe_files import LARGEST_WEIGHTS

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)

PLAIN_FILES = ("model.json", "model.safetensors", "hyperparams.yaml")
TRUSTED_FILES = (*PLAIN_FILES, "*.ckpt")


def is_hub_id(source):
    """Whether a text has the form of a repository's id: ``owner/name``.

    Arguments
    ---------
    source : str or Path
        A path, perhaps.

    Returns
    -------
    bool

    Example
    -------
    >>> [is_hub_id(text) for text in ("a/b-1", "a", "a/b/c", "../b", "a/b..c")]
    [True, False, False, False, False]
    """
    text = str(source)
    return HUB_ID.fullmatch(text) is not None and not re.search(
        r"\.\.|--|\.git$", text
    )


def download(hub_id, trust=False):
    """Downloads an exported model, unless it was before.

    Arguments
    ---------
    hub_id : str
        ``owner/name``.
    trust : bool
        Whether the checkpoints of the YAML layout are wanted, too.

    Returns
    -------
    Path
        A folder in the cache of the hub. If the hub cannot be reached, it is
        what was downloaded before.

    Raises
    ------
    FileNotFoundError
        If there is neither a folder of this name nor, as far as can be known,
        such a repository.
    ValueError
        If the files are larger than a model may be; none was downloaded.
    """
    patterns = TRUSTED_FILES if trust else PLAIN_FILES
    try:
        files = HfApi().model_info(hub_id, files_metadata=True).siblings
    except (OSError, ValueError, HTTPError) as error:
        return _snapshot(hub_id, patterns, error)
    wanted = filter_repo_objects(
        files, allow_patterns=list(patterns), key=lambda file: file.rfilename
    )
    size = sum(file.size for file in wanted)
    # With the checkpoints, all weights are there twice.
    largest = 2 * LARGEST_WEIGHTS if trust else LARGEST_WEIGHTS
    if size > largest:
        raise ValueError(
            f"{hub_id} is too large: its files have {size} bytes, when"
            f" {largest} is the limit"
        )
    return _snapshot(hub_id, patterns)


def _snapshot(hub_id, patterns, unreachable=None):
    """The folder of the files; only if they are there, of a hub that is not."""
    try:
        return Path(
            snapshot_download(
                hub_id,
                allow_patterns=patterns,
                local_files_only=unreachable is not None,
            )
        )
    except (OSError, ValueError, HTTPError) as error:
        reason = unreachable or error
        raise FileNotFoundError(
            f"{hub_id} is no folder here, and cannot be had from the Hugging"
            f" Face hub: {type(reason).__name__}: {reason}"
        ) from reason
