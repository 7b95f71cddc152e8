"""An exported model in SpeechBrain's layout for the hub.

``hyperparams.yaml`` says what ``model.json`` does, as SpeechBrain's
``EncoderClassifier`` reads it, and the weights are those of
``model.safetensors``. SpeechBrain runs what a YAML says.

Authors
 * qlung_plugin contributors
"""

import textwrap
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from qlung_plugin.dataio.channels import ChannelComparison
from qlung_plugin.dataio.cycles import CycleFeatures
from qlung_plugin.dataio.lengths import apply_by_shape
from qlung_plugin.inference.architecture import own_modules
from qlung_plugin.inference.classifier import unpad
from qlung_plugin.inference.recording_cycles import check_probabilities
from qlung_plugin.nnet.classifiers import logits_and_cosines
from qlung_plugin.processing.cycles import resample
from qlung_plugin.runs.folder import HYPERPARAMETERS, WEIGHTS
from qlung_plugin.utils.files import write_text
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.nnet.containers import LengthsCapableSequential
from speechbrain.utils.fetching import (
    FetchConfig,
    FetchSource,
    LocalStrategy,
    fetch,
)
from speechbrain.utils.logger import get_logger
from speechbrain.utils.parameter_transfer import Pretrainer

logger = get_logger(__name__)

TEMPLATE = """\
# For speechbrain.inference.classifiers.EncoderClassifier
{facts}label_encoder: !apply:qlung_plugin.dataio.labels.make_label_encoder
    - !ref <labels>
audio_normalizer: !new:{package}.RecordingNormalizer
    sample_rate: {sample_rate}
model: !apply:qlung_plugin.inference.architecture.build
{arguments}modules: !apply:{package}.encoder_modules
    - !ref <model>
pretrainer: !new:{package}.ModelPretrainer
    modules: !ref <model>
"""


def encoder_modules(model: dict[str, Any]) -> dict[str, nn.Module]:
    """What an ``EncoderClassifier`` calls, of the parts of a model.

    It tells ``compute_features`` no lengths, without which a cycle cannot be
    repeated to the fixed length: ``embedding_model`` has the front end, too.
    """
    return {
        "compute_features": nn.Identity(),
        "mean_var_norm": LengthsCapableSequential(nn.Identity()),
        "embedding_model": CycleEncoder(
            model["cycle_features"], model["backbone"]
        ),
        "classifier": LogProbabilities(model["classifier"]),
    }


class CycleEncoder(nn.Module):
    """From cycles to embeddings, as a model was trained to see them."""

    def __init__(
        self, cycle_features: CycleFeatures, backbone: nn.Module
    ) -> None:
        super().__init__()
        self.cycle_features, self.backbone = cycle_features, backbone
        self.has_warned = False

    def forward(
        self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings ``[batch, 1, dim]`` of cycles ``[batch, time]``."""
        rate = self.cycle_features.resampler.sample_rate
        cycles = unpad(waveforms, lengths)
        there = max(map(len, cycles))
        seen = self.cycle_features.fix_length.length
        if there > seen and not self.has_warned:
            logger.warning(
                "Of %.3g s the model sees the first %.3g s: it classifies"
                " respiratory cycles. Cut a recording into them, as"
                " qlung_plugin.inference.classifier.RespiratorySoundClassifier"
                " does",
                *(there / rate, seen / rate),
            )
            self.has_warned = True
        features = [self.cycle_features(cycle, rate) for cycle in cycles]
        (embeddings,) = apply_by_shape(
            lambda batch: (self.backbone(batch),), features
        )
        return embeddings.unsqueeze(1)


class LogProbabilities(nn.Module):
    """A classifier that returns logarithms of probabilities."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """``[batch, 1, class]`` of embeddings ``[batch, 1, dim]``."""
        logits, _ = logits_and_cosines(self.classifier(embeddings.squeeze(1)))
        check_probabilities(logits.float().softmax(dim=-1))
        return logits.float().log_softmax(dim=-1).unsqueeze(1)


class RecordingNormalizer(AudioNormalizer):
    """A recording at a model's rate, its channels mixed as everywhere here.

    The mean of those that are not silent, of which a warning says if they differ;
    a ValueError if they cancel each other. The level stays as it is.
    """

    def __call__(self, audio: torch.Tensor, sample_rate: int) -> torch.Tensor:
        """``[time]`` of ``[time, channel]`` or ``[time]`` at a rate in Hz."""
        if audio.dim() == 2:
            comparison = ChannelComparison(audio.shape[1])
            comparison.add(audio.cpu().numpy())
            complaint = comparison.complaint()
            if comparison.cancelled():
                raise ValueError(f"a recording: {complaint}")
            if complaint is not None:
                logger.warning("A recording: %s", complaint)
            audio = audio[:, comparison.sounding()].mean(dim=1)
        return resample(audio, sample_rate, self.sample_rate)


class ModelPretrainer(Pretrainer):
    """Loads all modules of a model from one file, ``model.safetensors``."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__(
            loadables={"model": nn.ModuleDict(modules)},
            custom_hooks={"model": _load},
        )

    def collect_files(
        self,
        default_source: str | Path | FetchSource | None = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig = FetchConfig(),
    ) -> dict[str, Path]:
        """Fetches the file; see SpeechBrain's ``Pretrainer``."""
        path = fetch(
            WEIGHTS,
            default_source,
            savedir=self.collect_in,
            local_strategy=local_strategy,
            fetch_config=fetch_config,
        )
        self.add_paths({"model": str(path)})
        self.is_local.append("model")
        return {"model": path}


def _load(modules: nn.ModuleDict, path: str) -> None:
    modules.load_state_dict(load_file(path))


def write_hyperparams(folder: Path, description: dict) -> None:
    """Writes the ``hyperparams.yaml`` of what a ``model.json`` says."""
    provenance = description["provenance"]
    facts = {
        "labels": description["labels"],
        "epoch": provenance["epoch"],
        "validated": provenance["validated"],
    }
    arguments = {
        "architecture": description["architecture"],
        "trust": own_modules(description["architecture"]),
    }
    text = TEMPLATE.format(
        facts=yaml.safe_dump(facts, sort_keys=False),
        arguments=textwrap.indent(
            yaml.safe_dump(arguments, sort_keys=False), "    "
        ),
        sample_rate=description["sample_rate"],
        package=__name__,
    )
    write_text(text, folder / HYPERPARAMETERS)
