"""Exporting a trained model: a folder that is complete in itself.

It has two layouts beside each other. ``model.json`` and ``model.safetensors``
are what this package reads, without running anything; ``hyperparams.yaml`` and
the checkpoints are SpeechBrain's layout for the hub, which runs what the YAML
says.

Authors
 * qlung_plugin contributors
"""

import math
import os
import shutil
from io import StringIO
from pathlib import Path

import safetensors
import speechbrain
import torch
import transformers
from ruamel.yaml import YAML
from safetensors.torch import save
from torch import nn

from qlung_plugin import __version__
from qlung_plugin.inference.model_card import write_model_card
from qlung_plugin.inference.model_checks import PARTS
from qlung_plugin.inference.models import (
    FORMAT_VERSION,
    HUB_YAML,
    MODEL_JSON,
    WEIGHTS,
    open_run,
)
from qlung_plugin.inference.plain_yaml import parse_architecture
from qlung_plugin.inference.provenance import describe_training
from qlung_plugin.inference.run_yaml import write_out_coefficients
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.utils.files import write_json, write_text

ONNX = "model.onnx"


def export_run(run_folder, out, checkpoint="selected", onnx=False, trust=False):
    """Exports the model of a training.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of the training.
    out : str or Path
        The folder to write, which does not exist, or is empty. It appears as a
        whole or not at all.
    checkpoint : str
        ``selected``, ``last`` or ``test_selected``.
    onnx : bool
        Whether to write ``model.onnx``, too: EfficientAT only.
    trust : bool
        Whether the training's YAML may run whatever it says. Of a model with
        components of one's own, only SpeechBrain's layout is written, which
        whoever loads it has to trust, too.

    Returns
    -------
    dict
        Of the model: ``checkpoint``, ``epoch``, ``labels``; ``files``, the names
        of what was written; and ``plain``, whether it loads without trust.

    Raises
    ------
    FileExistsError
        If ``out`` is a file, or a folder that is not empty.
    FileNotFoundError
        If the run folder is none, or lacks the checkpoint.
    ValueError
        If a file of the run is damaged, or names code and is not trusted; or if
        the backbone cannot be had in ONNX.
    RuntimeError
        If ``onnx`` is asked for and not installed.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} is there already: pass a folder that does not exist, or is"
            " empty"
        )
    path = RunFolder.of_training(run_folder).inference_yaml
    try:
        model = open_run(run_folder, checkpoint)
        plain = True
    except ValueError:
        if not trust:
            raise
        model = open_run(run_folder, checkpoint, trust)
        plain = False
    yaml_text = _self_contained(path.read_text(encoding="utf-8"))
    provenance = {
        "checkpoint": checkpoint,
        "epoch": model["epoch"],
        "validated": model["validated"],
        **describe_training(run_folder, checkpoint),
        "made_with": {
            "qlung_plugin": __version__,
            "torch": torch.__version__,
            "speechbrain": speechbrain.__version__,
            "transformers": transformers.__version__,
            "safetensors": safetensors.__version__,
        },
    }
    partial = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        if plain:
            architecture = parse_architecture(yaml_text, path)
            write_plain_layout(partial, architecture, model, provenance)
        write_yaml_layout(partial, yaml_text, model)
        if onnx:
            from qlung_plugin.inference.onnx_export import export_onnx

            export_onnx(model, partial / ONNX)
        write_model_card(partial, out.absolute().name, model, provenance)
        files = sorted(file.name for file in partial.iterdir())
        os.replace(partial, out)  # also over an empty folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {
        "checkpoint": checkpoint,
        "epoch": model["epoch"],
        "labels": list(model["labels"]),
        "files": files,
        "plain": plain,
    }


def _self_contained(text):
    """The YAML of a run without files of coefficients beside it."""
    yaml = YAML()
    tree = yaml.load(text)
    write_out_coefficients(tree)
    written = StringIO()
    yaml.dump(tree, written)
    return written.getvalue()


def write_plain_layout(folder, architecture, model, provenance):
    """Writes ``model.json`` and ``model.safetensors``.

    Arguments
    ---------
    folder : Path
        Where to.
    architecture : dict
        Of the model, with its labels; see
        :mod:`qlung_plugin.inference.architecture`.
    model : dict
        Its modules.
    provenance : dict
        Plain data.
    """
    modules = nn.ModuleDict({name: model[name] for name in PARTS})
    # Each tensor in memory of its own, which safetensors asks for.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in modules.state_dict().items()
    }
    content = save(tensors, metadata={"format": "pt"})
    (folder / WEIGHTS).write_bytes(content)  # save_file hides it from others
    architecture = dict(architecture)
    description = {
        "format_version": FORMAT_VERSION,
        "labels": architecture.pop("labels"),
        "sample_rate": model["cycle_features"].resampler.sample_rate,
        "quality_range": plain_range(model["quality"]),
        "architecture": architecture,
        "provenance": provenance,
    }
    write_json(description, folder / MODEL_JSON)


def plain_range(quality):
    """What a quality measure was fitted to, in plain numbers.

    The weights hold it, too, which is what is loaded.

    Arguments
    ---------
    quality : QualityMeasure
        Of the model.

    Returns
    -------
    dict
        Nested lists by name; empty if nothing was fitted.

    Example
    -------
    >>> from qlung_plugin.lobes.quality import AudioQualityScore
    >>> quality = AudioQualityScore(16000, normalisation="fitted")
    >>> plain_range(quality)
    {}
    >>> quality.fit(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    >>> {name: len(rows) for name, rows in plain_range(quality).items()}
    {'ranges': 2}
    """
    return {
        name: tensor.tolist()
        for name, tensor in quality.state_dict().items()
        if not math.isnan(tensor.double().sum().item())
    }


def write_yaml_layout(folder, yaml_text, model):
    """Writes ``hyperparams.yaml`` and the checkpoints it names.

    ``speechbrain.inference.interfaces.pretrained_from_hparams`` reads them.

    Arguments
    ---------
    folder : Path
        Where to.
    yaml_text : str
        The YAML of the run.
    model : dict
        Its modules.
    """
    references = [f"{name}: !ref <{name}>" for name in PARTS]
    lines = [
        yaml_text.rstrip("\n"),
        f"epoch: {model['epoch']}",
        f"validated: {model['validated']}",
        "pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer",
        "  loadables:",
        *(f"    {line}" for line in references),
        "modules:",
        *(f"  {line}" for line in references),
    ]
    write_text("\n".join(lines) + "\n", folder / HUB_YAML)
    for name in PARTS:
        torch.save(model[name].state_dict(), folder / f"{name}.ckpt")
