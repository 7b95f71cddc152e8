"""What of a training's YAML is needed to use its model.

Authors
 * qlung_plugin contributors
"""

from io import StringIO
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from qlung_plugin.lobes.quality.coefficients import plain_coefficients
from qlung_plugin.runs.folder import INFERENCE_YAML
from qlung_plugin.runs.hparams import read_hparams
from qlung_plugin.utils.files import write_text


def write_inference_yaml(hparams_file, overrides, keys, folder):
    """Writes the part of a training YAML that is needed to use the model.

    References are resolved, a top-level ``!apply:`` and an attribute such as
    ``<backbone.embedding_dim>`` are replaced by what they give, and a file of
    coefficients by what it holds, so that the file says it all in plain words;
    ``pretrained_weights`` are set to null wherever they occur: the checkpoint
    holds the weights, so nothing is to be downloaded.

    Arguments
    ---------
    hparams_file : str or Path
        The training YAML.
    overrides : str or dict
        What the command line changed in it.
    keys : list of str
        The top-level keys to keep.
    folder : str or Path
        Where ``inference.yaml`` is written: the checkpoints' folder.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the training YAML lacks one of the keys.
    """
    resolved = YAML().load(
        resolve_references(read_hparams(hparams_file), overrides)
    )
    missing = [key for key in keys if key not in resolved]
    if missing:
        raise ValueError(
            f"{hparams_file} lacks {', '.join(missing)}, which"
            f" {INFERENCE_YAML} needs"
        )
    kept = CommentedMap((key, resolved[key]) for key in keys)
    _clean(kept)
    write_out_coefficients(kept)
    # Without a trace in the random numbers of the training that comes.
    with torch.random.fork_rng():
        _look_up(kept)
        for key, value in kept.items():
            if str(getattr(value, "tag", None)).startswith("!apply:"):
                kept[key] = _apply(value)
    text = StringIO()
    text.write(
        "# Generated: what is needed to load the checkpoints of this folder.\n"
    )
    YAML().dump(kept, text)
    path = Path(folder) / INFERENCE_YAML
    write_text(text.getvalue(), path)
    return path


def _look_up(node):
    """Replaces attributes of objects, of which references are made of."""
    if not isinstance(node, (CommentedMap, CommentedSeq)):
        return
    pairs = node.items() if hasattr(node, "items") else enumerate(node)
    for key, value in pairs:
        if str(getattr(value, "tag", None)) == "!apply:getattr":
            node[key] = _apply(value)
        else:
            _look_up(value)


def _apply(node):
    """What an ``!apply:`` gives, which has to be plain data."""
    text = StringIO()
    YAML().dump(CommentedMap(value=node), text)
    value = load_hyperpyyaml(text.getvalue())["value"]
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    return value


def write_out_coefficients(node):
    """Puts the coefficients of learned quality scores into a YAML.

    The file that holds them is beside the recipes, or of the version of this
    package that was trained with.

    Arguments
    ---------
    node : ruamel.yaml.comments.CommentedMap
        What is changed.
    """
    if isinstance(node, CommentedSeq):
        for part in node:
            write_out_coefficients(part)
    elif isinstance(node, CommentedMap):
        for part in node.values():
            write_out_coefficients(part)
        if str(node.tag).endswith(".LearnedQualityScore"):
            coefficients = node.get("coefficients")
            if not isinstance(coefficients, dict):
                node["coefficients"] = plain_coefficients(coefficients)


def _clean(node):
    """Removes weights to download, and comments, which belong to neighbours."""
    if isinstance(node, (CommentedMap, CommentedSeq)):
        node.ca.comment = node.ca.end = None
        node.ca.items.clear()
        pairs = node.items() if hasattr(node, "items") else enumerate(node)
        for key, value in pairs:
            if key == "pretrained_weights":
                node[key] = None
            else:
                _clean(value)
