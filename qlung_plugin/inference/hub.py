"""Exported models on the Hugging Face hub.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from qlung_plugin.inference.safe_files import LARGEST_WEIGHTS
from qlung_plugin.runs.folder import MODEL_JSON, WEIGHTS

FILES = [MODEL_JSON, WEIGHTS]
FAILURES = (OSError, ValueError, HTTPError)  # of the hub's library


def is_hub_id(source: object) -> bool:
    """Whether a text, perhaps a path, has the form of an id: ``owner/name``."""
    text = str(source)
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    # Before its version 2, the library takes "é/b" and "a/b\n" as well.
    return "/" in text and text.isascii() and text.isprintable()


def download(hub_id: str) -> Path:
    """The folder of an exported model in the cache of the hub.

    It is downloaded unless it was before; if the hub cannot be reached, it is
    what was. A FileNotFoundError says that there is no such repository, as far
    as can be known; a ValueError that its files are larger than a model may be,
    and none was downloaded.
    """
    files, unreachable = [], None
    try:
        files = huggingface_hub.snapshot_download(
            hub_id, allow_patterns=FILES, dry_run=True
        )
    except FAILURES as error:
        unreachable = error.__cause__ or error
    size = sum(file.file_size or 0 for file in files)
    if size > LARGEST_WEIGHTS:
        raise ValueError(
            f"{hub_id} is too large: its files have {size} bytes, when"
            f" {LARGEST_WEIGHTS} is the limit"
        )
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id,
                allow_patterns=FILES,
                local_files_only=unreachable is not None,
            )
        )
    except FAILURES as error:
        reason = unreachable or error
        raise FileNotFoundError(
            f"{hub_id} is no folder here, and cannot be had from the Hugging"
            f" Face hub: {type(reason).__name__}: {reason}"
        ) from reason
