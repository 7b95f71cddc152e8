"""Loading the model of a training from the checkpoints that it left.

Authors
 * qlung_plugin contributors
"""

import torch
import yaml
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.checkpoints import METAFNAME, Checkpointer

from qlung_plugin.inference.plain_yaml import read_nodes
from qlung_plugin.inference.safe_files import read_text
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.schema import read_checked
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.state_dicts import read_state_dict

LARGEST_META = 2**10  # bytes of what a checkpoint tells of itself


def read_hyperparameters(run_folder):
    """The keys of a run's ``hyperparams.yaml``, of which nothing is made.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a training, or of an evaluation.

    Returns
    -------
    dict
        Nodes of ruamel.yaml, with their tags, by key. Empty if there is no such
        file.

    Raises
    ------
    ValueError
        If it is no YAML of keys, or grows beyond all bounds.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "hyperparams.yaml").write_text("data_folder: ICBHI")
    >>> read_hyperparameters(folder)["data_folder"]
    'ICBHI'
    """
    path = RunFolder(run_folder).hyperparameters
    return read_nodes(path, path.parent) if path.is_file() else {}


def load_run(run_folder, checkpoint="selected", device="cpu"):
    """Loads the model of a training run.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a training.
    checkpoint : str
        ``selected`` (on validation), ``last`` or ``test_selected``. Where a
        training had no validation set, ``selected`` is its last epoch.
    device : str
        Where the modules go.

    Returns
    -------
    dict
        The objects of ``inference.yaml`` by name, its modules in evaluation
        mode with the checkpoint's parameters; ``epoch``; and ``validated``,
        whether the training had a validation set to select by.

    Raises
    ------
    FileNotFoundError
        If the folder is no run, has no such checkpoint, or the checkpoint
        lacks the file of a module that has parameters or persistent buffers.
    ValueError
        If a file of the checkpoint is damaged or does not fit its module.
    """
    run = RunFolder.of_training(run_folder)
    with open(run.inference_yaml, encoding="utf-8") as file:
        objects = load_hyperpyyaml(file)
    found = find_checkpoint(open_checkpoints(run.save), checkpoint)
    model = load_weights(objects, found, device)
    return {**model, **describe_checkpoint(found)}


def load_weights(objects, checkpoint, device="cpu"):
    """Loads a checkpoint into the modules of a run.

    Arguments
    ---------
    objects : dict
        By name; those that are no modules stay as they are.
    checkpoint : speechbrain.utils.checkpoints.Checkpoint
        Of the run.
    device : str
        Where the modules go.

    Returns
    -------
    dict
        The objects, the modules in evaluation mode.

    Raises
    ------
    FileNotFoundError
        If the checkpoint lacks the file of a module that has parameters or
        persistent buffers.
    ValueError
        If a file is damaged or does not fit its module.
    """
    modules = {
        name: value
        for name, value in objects.items()
        if isinstance(value, torch.nn.Module)
    }
    loaded = set()
    for name in modules.keys() & checkpoint.paramfiles.keys():
        _load_state(modules[name], checkpoint.paramfiles[name])
        loaded.update(
            map(id, modules[name].state_dict(keep_vars=True).values())
        )
    for name, module in modules.items():
        # A module without a file may be made of others that have one.
        for key, value in module.state_dict(keep_vars=True).items():
            if id(value) not in loaded:
                raise FileNotFoundError(
                    f"{checkpoint.path} has no {name}.ckpt to load"
                    f" {name}.{key} from: is it one of the run's recoverables,"
                    " or was saving interrupted?"
                )
    for module in modules.values():
        module.to(device).eval()
    return objects


def describe_checkpoint(checkpoint):
    """What a checkpoint tells of itself.

    Arguments
    ---------
    checkpoint : speechbrain.utils.checkpoints.Checkpoint
        Of a run, at the end of an epoch.

    Returns
    -------
    dict
        ``epoch``, and ``validated``, whether the training had a validation set
        to select by.
    """
    return {
        "epoch": int(checkpoint.meta["epoch"]),
        "validated": CHECKPOINTS["selected"].key in checkpoint.meta,
    }


def _load_state(module, path):
    state = read_state_dict(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:  # missing, unknown, or of another shape
        raise ValueError(f"{path} is of another model: {error}") from error


def find_checkpoints(run_folder, checkpoint):
    """The names of the checkpoints to evaluate, all of which are there.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a training.
    checkpoint : str
        ``selected``, ``last`` or ``test_selected``; or ``all`` that the run
        has: without a test pass per epoch there is no ``test_selected``.

    Returns
    -------
    list of str

    Raises
    ------
    FileNotFoundError
        If the folder is no run, or has no such checkpoint.
    """
    checkpointer = open_checkpoints(RunFolder.of_training(run_folder).save)
    if checkpoint != "all":
        find_checkpoint(checkpointer, checkpoint)
        return [checkpoint]
    last = find_checkpoint(checkpointer, "last")
    return [
        name
        for name in CHECKPOINTS
        if name != "test_selected" or CHECKPOINTS[name].key in last.meta
    ]


def open_checkpoints(folder):
    """The checkpoints of a folder, the description of each of which is plain.

    Some versions of SpeechBrain, such as 1.1.0, run code that it names.

    Arguments
    ---------
    folder : Path
        Of the checkpoints.

    Returns
    -------
    speechbrain.utils.checkpoints.Checkpointer

    Raises
    ------
    ValueError
        If a checkpoint's description is none; the message names it.
    """
    for path in folder.glob(f"*/{METAFNAME}"):
        text = read_text(path, folder, LARGEST_META)
        try:
            # Aliases would let a merge of keys grow beyond all bounds.
            if "*" in text or not isinstance(yaml.safe_load(text), dict):
                raise ValueError("no plain keys with values")
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ValueError(
                f"{path} is no description of a checkpoint: {error}"
            ) from error
    return Checkpointer(folder)


def describe_run(run_folder):
    """What a run was trained on, as its results tell.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a training.

    Returns
    -------
    dict
        ``folder``, and ``data`` as the training wrote it; None if it has not
        come to its end.
    """
    metrics, data = RunFolder.of_training(run_folder).metrics, None
    if metrics.is_file():
        data = read_checked(metrics, {"data": {}})["data"]
    return {"folder": str(run_folder), "data": data}


def find_checkpoint(checkpointer, checkpoint):
    """Finds one of the three checkpoints that a training keeps.

    Arguments
    ---------
    checkpointer : speechbrain.utils.checkpoints.Checkpointer
        Of the run.
    checkpoint : str
        ``selected``, ``last`` or ``test_selected``.

    Returns
    -------
    speechbrain.utils.checkpoints.Checkpoint
        The checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if checkpoint not in CHECKPOINTS:
        raise ValueError(
            f"checkpoint={checkpoint!r} is none of {', '.join(CHECKPOINTS)}"
        )
    found = checkpointer.find_checkpoint(max_key=CHECKPOINTS[checkpoint].key)
    if found is None and checkpoint == "selected":
        # Without a validation set, the last epoch is what is selected.
        found = checkpointer.find_checkpoint(max_key="epoch")
    if found is None:
        raise FileNotFoundError(
            f"{checkpointer.checkpoints_dir} has no checkpoint with"
            f" {CHECKPOINTS[checkpoint].key!r}, so none is {checkpoint}"
        )
    return found
