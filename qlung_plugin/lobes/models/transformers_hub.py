"""Published weights of the transformers library.

Authors
 * qlung_plugin contributors
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from qlung_plugin.lobes.models.weights import WRAPPER, check_architecture
from qlung_plugin.utils.state_dicts import DAMAGED

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedConfig, PreTrainedModel

# What a damaged or foreign folder makes from_pretrained raise.
UNREADABLE = (*DAMAGED, ImportError, SafetensorError, StrictDataclassError)


def pretrained_state(
    model_class: "type[PreTrainedModel]",
    pretrained_weights: Path | str,
    config: "PreTrainedConfig",
    fields: Sequence[str],
    left_out: str,
) -> dict[str, torch.Tensor]:
    """The state dict of published weights, if they are of this architecture.

    The weights are a folder that ``save_pretrained`` wrote, or the name of a
    repository of the Hugging Face Hub, which is downloaded once. The
    architecture depends on some fields of its configuration. Tensors whose
    names match the pattern ``left_out`` are not of the model, and may be there.
    Only tensors are read: nothing that a folder may hold besides is executed.

    It is a ConnectionError if the repository cannot be reached, and a
    ValueError if the folder is damaged, incomplete or of another architecture.
    """
    from transformers.utils import logging

    source = str(pretrained_weights)
    if os.path.isfile(source):
        raise ValueError(
            f"{source} is a file: pass the folder that save_pretrained wrote"
        )
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is left out is no news
    try:
        model, report = cast(
            "tuple[PreTrainedModel, dict[str, set[str]]]",
            model_class.from_pretrained(source, output_loading_info=True),
        )
    except UNREADABLE as error:
        if os.path.isdir(source):
            raise ValueError(
                f"{source} holds no readable {model_class.__name__}: {error}"
            ) from error
        if not isinstance(error, OSError):
            raise
        raise ConnectionError(
            f"{source} is no folder here, and cannot be had from the Hugging"
            f" Face Hub ({error}). Download it where there is a network and pass"
            " the folder: --pretrained_weights /path/to/folder; or pass"
            " `--pretrained_weights none` for random initialisation"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    check_architecture(
        source,
        {field: _plain(getattr(model.config, field)) for field in fields},
        {field: _plain(getattr(config, field)) for field in fields},
    )
    missing = sorted(report["missing_keys"]) + sorted(report["mismatched_keys"])
    if missing:
        # Sorted: files give the names in any order, and the first is shown.
        wrapped = [
            name
            for name in sorted(report["unexpected_keys"])
            if name.startswith(WRAPPER)
        ]
        raise ValueError(
            f"{source} lacks {len(missing)} tensors of {model_class.__name__},"
            f" such as {missing[0]}"
            + (
                f". It was saved from DataParallel, as {wrapped[0]!r} tells:"
                " save_pretrained its module"
                if wrapped
                else ""
            )
        )
    unknown = sorted(
        name
        for name in report["unexpected_keys"]
        if not re.match(left_out, name)
    )
    if unknown:
        raise ValueError(
            f"{source} holds {len(unknown)} tensors that {model_class.__name__}"
            f" does not have, such as {unknown[0]}"
        )
    return model.state_dict()


def _plain(value: object) -> object:
    """A tuple as the list that it is in a file."""
    return list(value) if isinstance(value, tuple) else value
