"""An exported model in SpeechBrain's layout for the hub.

``hyperparams.yaml`` says what ``model.json`` does, in SpeechBrain's way, and the
weights are those of ``model.safetensors``. SpeechBrain runs what a YAML says.

Authors
 * qlung_plugin contributors
"""

import textwrap
from pathlib import Path

import yaml
from safetensors.torch import load_file
from torch import nn

from qlung_plugin.inference.architecture import own_modules
from qlung_plugin.runs.folder import HYPERPARAMETERS, WEIGHTS
from qlung_plugin.utils.files import write_text
from speechbrain.utils.fetching import (
    FetchConfig,
    FetchSource,
    LocalStrategy,
    fetch,
)
from speechbrain.utils.parameter_transfer import Pretrainer

TEMPLATE = """\
# For speechbrain.inference.interfaces.pretrained_from_hparams
{facts}modules: !apply:qlung_plugin.inference.architecture.build
{arguments}pretrainer: !new:{package}.ModelPretrainer
    modules: !ref <modules>
"""


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
        package=__name__,
    )
    write_text(text, folder / HYPERPARAMETERS)
