"""Exporting a trained model: a folder that is complete in itself.

Beside ``model.json`` and ``model.safetensors``, which is all that this package
reads, it has a model card, and SpeechBrain's layout for the hub.

Authors
 * qlung_plugin contributors
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from qlung_plugin.inference.model_card import write_model_card, write_notices
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.old_runs import convert_old_run
from qlung_plugin.inference.provenance import describe_results
from qlung_plugin.inference.speechbrain_layout import write_hyperparams
from qlung_plugin.runs import schema
from qlung_plugin.runs.folder import MODEL_JSON, WEIGHTS, RunFolder
from qlung_plugin.training.selection import check_checkpoint
from qlung_plugin.utils.files import write_json
from qlung_plugin.utils.ordinary_files import read_json

ONNX = "model.onnx"


def export_run(
    run_folder: str | Path,
    out: str | Path,
    checkpoint: str = "selected",
    onnx: bool = False,
    trust: str | Iterable[str] = (),
    convert: bool = False,
    note: str = "",
) -> dict:
    """Exports the model of a training to a folder that is new, or empty.

    The folder appears as a whole or not at all. With ``onnx``, EfficientAT's
    has ``model.onnx``, too; with ``convert``, the files of an older version are
    read, YAML and checkpoints, for which the run has to be one's own. The note
    goes into the card, with the data. For the rest, and errors, see
    :func:`qlung_plugin.inference.models.open_model`.

    It returns the ``checkpoint``, ``epoch`` and ``labels`` of the model, and the
    names of the ``files`` that were written.
    """
    run = RunFolder(run_folder)
    check_checkpoint(checkpoint)
    check_new(out)
    if not run.is_training:
        raise FileNotFoundError(f"{run_folder} is no run folder of a training")
    with TemporaryDirectory() as temporary:
        source = run.path
        if convert and run.inference_yaml.is_file():
            source = Path(temporary)
            convert_old_run(run, checkpoint, source, trust)
        model = open_model(source, checkpoint, trust)
        if source == run.path:
            source = run.model(checkpoint)
        description = read_json(source / MODEL_JSON)
        provenance = description["provenance"]
        schema.check(provenance, schema.TRAINING, source / MODEL_JSON)
        provenance.update(describe_results(run, checkpoint))
        with new_folder(out) as partial:
            write_json(description, partial / MODEL_JSON)
            shutil.copyfile(source / WEIGHTS, partial / WEIGHTS)
            files = complete_export(partial, out, model, note, onnx)
    return {
        "checkpoint": checkpoint,
        "epoch": model["epoch"],
        "labels": model["labels"],
        "files": files,
    }


def check_new(out: str | Path) -> None:
    """Refuses a folder that has something in it, or is none."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} is there already: pass a folder that does not exist, or is"
            " empty"
        )


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place once it is complete."""
    check_new(out)
    out = Path(out).absolute()
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, out)  # also over an empty folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def complete_export(
    partial: Path,
    out: str | Path,
    model: dict,
    note: str = "",
    onnx: bool = False,
) -> list[str]:
    """Writes what goes beside ``model.json`` and the weights in a folder.

    That is to become ``out``. It returns the names of all files there.
    """
    description = read_json(partial / MODEL_JSON)
    write_hyperparams(partial, description)
    if onnx:
        from qlung_plugin.inference.onnx_export import export_onnx

        export_onnx(model, partial / ONNX)
    weights = description["provenance"]["settings"].get("pretrained_weights")
    if weights not in (None, "none"):
        write_notices(partial, model)
    name = Path(out).absolute().name
    write_model_card(partial, name, model, description, note)
    return sorted(file.name for file in partial.iterdir())
