"""Published weights of the transformers library.

Authors
 * qlung_plugin contributors
"""

import os
import re

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from qlung_plugin.lobes.models.weights import WRAPPER
from qlung_plugin.utils.state_dicts import DAMAGED

# What a damaged or foreign folder makes from_pretrained raise.
UNREADABLE = (*DAMAGED, ImportError, SafetensorError, StrictDataclassError)


def check_choice(argument, value, allowed):
    """Raises a ValueError if an argument is none of what it may be.

    Arguments
    ---------
    argument : str
        What it is called.
    value : object
        What was given.
    allowed : iterable of str
        What it may be.

    Example
    -------
    >>> check_choice("pooling", "max", ("cls", "mean"))
    Traceback (most recent call last):
    ...
    ValueError: pooling='max' is none of cls, mean
    """
    if value not in allowed:
        raise ValueError(
            f"{argument}={value!r} is none of {', '.join(allowed)}"
        )


def pretrained_state(model_class, pretrained_weights, config, fields, left_out):
    """The state dict of published weights, if they are of this architecture.

    Only tensors are read: nothing that a folder may hold besides is executed.

    Arguments
    ---------
    model_class : type
        A model of transformers.
    pretrained_weights : str or Path
        A folder that ``save_pretrained`` wrote, or the name of a repository of
        the Hugging Face Hub, which is downloaded once.
    config : transformers.PretrainedConfig
        The architecture that the weights are for.
    fields : sequence of str
        What the architecture depends on.
    left_out : str
        A pattern of the names of tensors that are not of the model, and may be
        there.

    Returns
    -------
    dict
        Tensors by name.

    Raises
    ------
    ConnectionError
        If the repository cannot be reached.
    ValueError
        If the folder is damaged, incomplete or of another architecture.
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
        model, report = model_class.from_pretrained(
            source, output_loading_info=True
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
    pairs = {
        field: (
            _plain(getattr(model.config, field)),
            _plain(getattr(config, field)),
        )
        for field in fields
    }
    differing = {
        field: (theirs, ours)
        for field, (theirs, ours) in pairs.items()
        if theirs != ours
    }
    if differing:
        described = ", ".join(
            f"{field} {theirs!r} instead of {ours!r}"
            for field, (theirs, ours) in differing.items()
        )
        raise ValueError(
            f"{source} is of another architecture: {described}. Pass what differs"
            " from the default as config"
        )
    missing = sorted(report["missing_keys"]) + sorted(report["mismatched_keys"])
    if missing:
        wrapped = [
            name
            for name in report["unexpected_keys"]
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


def _plain(value):
    """A tuple as the list that it is in a file."""
    return list(value) if isinstance(value, tuple) else value
