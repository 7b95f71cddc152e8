"""Exporting a model to ONNX, with its front end.

Authors
 * qlung_plugin contributors
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qlung_plugin import __version__
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.nnet.classifiers import logits_and_cosines

OPSET = 18
NEEDED = ("onnx", "onnxscript")


class WaveformClassifier(nn.Module):
    """From cycles of the fixed length to probabilities, in one module.

    A backbone that is not EfficientAT is a ValueError.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        if not isinstance(model["backbone"], EfficientAT):
            raise ValueError(
                "only EfficientAT is exported to ONNX, and this model has"
                f" {type(model['backbone']).__name__}: export it without --onnx"
            )
        self.compute_features = model["cycle_features"].compute_features
        self.backbone, self.classifier = model["backbone"], model["classifier"]

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Probabilities ``[batch, class]`` of cycles ``[batch, time]``."""
        # In half precision, as CycleFeatures hands them on.
        features = self.compute_features(waveforms).half().float()
        output = self.classifier(self.backbone(features))
        logits, _ = logits_and_cosines(output)
        return logits.softmax(dim=-1)


def export_onnx(model: dict[str, Any], path: Path) -> None:
    """Writes a model of ``open_model`` in ONNX, with its front end.

    The input ``waveforms`` is ``[batch, time]``, of any batch and of the fixed
    length; the output ``probabilities`` ``[batch, class]``. A package that is
    not installed is a RuntimeError, a backbone that is not EfficientAT a
    ValueError.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"--onnx needs {' and '.join(missing)}: pip install"
            " 'qlung_plugin[onnx]'"
        )
    classifier = WaveformClassifier(model).eval()
    fix_length = model["cycle_features"].fix_length
    sample_rate = model["cycle_features"].resampler.sample_rate
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            classifier,
            (torch.zeros(2, fix_length.length),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["waveforms"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    assert program is not None  # as of dynamo
    # Each node says from which line of which file, on this machine, it is.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.model.metadata_props.update(
        {
            "labels": json.dumps(list(model["labels"])),
            "sample_rate": str(sample_rate),
            "samples": str(fix_length.length),
            "fade_samples": str(fix_length.fade_samples),
            "fade_first": json.dumps(fix_length.fade_first),
            "fade_in": json.dumps(fix_length.fade_in),
            "made_with": f"qlung_plugin {__version__}",
        }
    )
    program.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own making."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
