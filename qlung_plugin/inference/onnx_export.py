"""Exporting a model to ONNX, with its front end.

Authors
 * qlung_plugin contributors
"""

import contextlib
import copy
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
from qlung_plugin.dataio.cycles import OwnLength
from qlung_plugin.lobes.features import EfficientATFeatures, NormalisedFeatures
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.lobes.models.pooled import PooledBlocks, Standardisation
from qlung_plugin.nnet.classifiers import logits_and_cosines

OPSET = 18
NEEDED = ("onnx", "onnxscript")
# Backbones; what stands before a Standardisation is in the front end.
EXPORTED = (EfficientAT, PooledBlocks, Standardisation)


class WaveformClassifier(nn.Module):
    """From cycles of one length to probabilities, in one module.

    Of the reference of their recording it takes what is in ``defaults``, which is
    what the model needs. A backbone that is none of :data:`EXPORTED` is a
    ValueError.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        if not isinstance(model["backbone"], EXPORTED):
            raise ValueError(
                "only EfficientAT is exported to ONNX, and this model has"
                f" {type(model['backbone']).__name__}: export it without --onnx"
            )
        self.compute_features = without_masked_bands(
            model["cycle_features"].compute_features
        )
        self.backbone, self.classifier = model["backbone"], model["classifier"]
        self.defaults: dict[str, torch.Tensor] = {}  # NaN: the cycle's own
        if isinstance(self.compute_features, NormalisedFeatures):
            if self.compute_features.level is not None:
                self.defaults["gain"] = torch.full((1,), torch.nan)
            if self.compute_features.spectral_mean:
                one_second = torch.zeros(self.compute_features.sample_rate)
                reference = self.compute_features.reference(
                    [one_second], len(one_second)
                )
                mean = torch.full_like(reference[1:], torch.nan)
                self.defaults["spectral_mean"] = mean

    def forward(
        self,
        waveforms: torch.Tensor,
        gain: torch.Tensor | None = None,
        spectral_mean: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Probabilities ``[batch, class]`` of cycles ``[batch, time]``.

        The gain ``[1]`` and the spectral mean ``[mel]`` are of the recording of
        all of them; what is NaN is each cycle's own.
        """
        if gain is None and spectral_mean is None:
            features = self.compute_features(waveforms)
        else:
            parts = [waveforms.new_ones(1) if gain is None else gain]
            if spectral_mean is not None:
                parts.append(spectral_mean)
            features = self.compute_features(
                waveforms, torch.cat(parts).unsqueeze(0), partial=True
            )
        # In half precision, as CycleFeatures hands them on.
        features = features.half().float()
        output = self.classifier(self.backbone(features))
        logits, _ = logits_and_cosines(output)
        return logits.softmax(dim=-1)


def without_masked_bands(compute_features: nn.Module) -> nn.Module:
    """Features whose masked mel bands are not computed before they are masked.

    Of these, or of all that are above the mel bank, no bin is needed. They are equal
    but for rounding.
    """
    if not isinstance(compute_features, NormalisedFeatures):
        return compute_features
    if not compute_features.masks or not isinstance(
        compute_features.log_mel, EfficientATFeatures
    ):
        return compute_features
    compute_features = copy.deepcopy(compute_features)
    bank = compute_features.log_mel.mel_bank
    bank = bank * compute_features.inside.unsqueeze(1)
    bins = int(bank.any(dim=0).nonzero().max()) + 1
    compute_features.log_mel.mel_bank = bank[:, :bins]
    return compute_features


def export_onnx(model: dict[str, Any], path: Path) -> None:
    """Writes a model of ``open_model`` in ONNX, with its front end.

    The input ``waveforms`` is ``[batch, time]``, of any batch and of the fixed
    length, or of any number of steps of ``OwnLength``; the output
    ``probabilities`` ``[batch, class]``. Of a model that normalises by the
    recording, ``gain``, ``[1]``, and ``spectral_mean``, ``[mel]``, of the recording
    that all cycles are of, may be given, too; without one it is each cycle's own.
    A package that is not installed is a RuntimeError, a backbone that is none of
    :data:`EXPORTED` a ValueError.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"--onnx needs {' and '.join(missing)}: pip install"
            " 'qlung_plugin[onnx]'"
        )
    import onnx_ir as ir

    classifier = WaveformClassifier(model).eval()
    fix_length = model["cycle_features"].fix_length
    shapes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    further = {}  # metadata
    if isinstance(fix_length, OwnLength):
        most = fix_length.length // fix_length.step
        shapes[1] = fix_length.step * torch.export.Dim("steps", max=most)
        further["step_samples"] = str(fix_length.step)
    sample_rate = model["cycle_features"].resampler.sample_rate
    with quiet_exporter(), torch.inference_mode():
        program = torch.onnx.export(
            classifier,
            (torch.zeros(2, fix_length.length),),
            kwargs=classifier.defaults,
            dynamo=True,
            opset_version=OPSET,
            input_names=["waveforms", *classifier.defaults],
            output_names=["probabilities"],
            dynamic_shapes={
                "waveforms": shapes,
                **dict.fromkeys(classifier.defaults),
            },
            verbose=False,
        )
    assert program is not None  # as of dynamo
    # An input with an initializer need not be given.
    for value in program.model.graph.inputs[1:]:
        default = classifier.defaults[str(value.name)]
        value.const_value = ir.tensor(default.numpy(), name=value.name)
        program.model.graph.register_initializer(value)
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
            **further,
            "made_with": f"qlung_plugin {__version__}",
        }
    )
    program.save(path)


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
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
