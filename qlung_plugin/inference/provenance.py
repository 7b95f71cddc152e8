"""Where a trained model comes from: its data, its settings and its results.

Only what is listed here is told: a run folder also holds paths of the machine
that it was made on.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from qlung_plugin.inference.hub import is_hub_id
from qlung_plugin.inference.run import read_hyperparameters
from qlung_plugin.runs.evaluations import read_evaluations
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.scores.metrics import METRICS

# What is told of a run's hyperparams.yaml, where it has it.
SETTINGS = (
    "seed",
    "number_of_epochs",
    "batch_size",
    "lr",
    "final_lr",
    "split",
    "test_fold",
    "valid_fraction",
    "valid_fold",
    "split_seed",
    "frozen_blocks",
    "pretrained_weights",
    "loss",
)

# What is told of the data that metrics.json describes.
DATA = (
    "database",
    "subset",
    "recordings",
    "recordings_published",
    "split",
    "protocol",
    "partition",
    "partitions",
    "patients_on_both_sides",
    "quality_supervision",
    "manifests",
)

# What is told of each result, besides its selection.
RESULTS = (
    *METRICS,
    "recall",
    "counts",
    "confusion",
    "patients",
    "interval",
)

SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")


def describe_training(run_folder, checkpoint):
    """What is known of the training of a checkpoint.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a training.
    checkpoint : str
        ``selected``, ``last`` or ``test_selected``.

    Returns
    -------
    dict
        ``settings`` of the training; ``data``, None if the training has not
        come to its end; and ``results``, a list of dicts: those on the test set
        of the training first, then those in folders within the run folder. A
        result has ``data``, too.

    Raises
    ------
    OSError, ValueError
        If a file is damaged, or predictions are missing or give other figures;
        the message names it.
    """
    run = RunFolder.of_training(run_folder)
    configuration, seed = run.path.parent.name, run.path.name
    results, training = [], None
    for part in run.parts():
        found = read_evaluations(part, configuration, seed)
        data = _chosen(found[0].data, DATA)
        if part.path == run.path:
            training = data
        results += [
            {
                "selection": one.selection,
                **_chosen(one.figures, RESULTS),
                "data": data,
            }
            for one in found
            if one.checkpoint == checkpoint
        ]
    return {
        "settings": read_settings(run.path),
        "data": training,
        "results": results,
    }


def read_settings(run_folder):
    """The settings of a training that are worth telling.

    Arguments
    ---------
    run_folder : str or Path
        Of which the ``hyperparams.yaml`` is read; nothing in it is made.

    Returns
    -------
    dict
        Plain values by name; of the loss, classes and arguments. Empty if there
        is no such file.

    Raises
    ------
    ValueError
        If it is no YAML.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "hyperparams.yaml").write_text('''
    ... seed: 1
    ... data_folder: /home/somebody/ICBHI
    ... pretrained_weights: /home/somebody/mn04_as.pt
    ... loss: !new:qlung_plugin.nnet.losses.FocalLoss
    ...     gamma: 2.0
    ... ''')
    >>> settings = read_settings(folder)
    >>> settings["seed"], settings["pretrained_weights"]
    (1, 'mn04_as.pt')
    >>> settings["loss"]
    {'class': 'qlung_plugin.nnet.losses.FocalLoss', 'arguments': {'gamma': 2.0}}
    """
    hparams = read_hyperparameters(run_folder)
    settings = {key: _plain(hparams[key]) for key in SETTINGS if key in hparams}
    weights = settings.get("pretrained_weights")
    if weights is not None and (
        str(weights).endswith(SUFFIXES) or not is_hub_id(weights)
    ):
        settings["pretrained_weights"] = Path(str(weights)).name
    return settings


def _chosen(mapping, keys):
    return {key: mapping[key] for key in keys if key in mapping}


def _plain(node):
    """A node of YAML as JSON has it."""
    tag = str(getattr(node, "tag", ""))
    if isinstance(node, CommentedMap):
        value = {str(key): _plain(part) for key, part in node.items()}
    elif isinstance(node, CommentedSeq):
        value = [_plain(part) for part in node]
    elif isinstance(node, (bool, type(None))):
        return node
    elif isinstance(node, (int, float)):
        return float(node) if isinstance(node, float) else int(node)
    else:  # text, or a tag without arguments
        value = {} if tag.startswith("!") else str(node)
    if tag.startswith("!"):
        return {"class": tag.rpartition(":")[2], "arguments": value}
    return value
