"""Exported models on the Hugging Face hub.

Authors
 * qlung_plugin contributors
"""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HTTPError

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
        A folder in the cache of the hub.

    Raises
    ------
    FileNotFoundError
        If there is neither a folder of this name nor, as far as can be known,
        such a repository.
    """
    try:
        folder = snapshot_download(
            hub_id, allow_patterns=TRUSTED_FILES if trust else PLAIN_FILES
        )
    except (OSError, ValueError, HTTPError) as error:
        raise FileNotFoundError(
            f"{hub_id} is no folder here, and cannot be had from the Hugging"
            f" Face hub: {type(error).__name__}: {error}"
        ) from error
    return Path(folder)
