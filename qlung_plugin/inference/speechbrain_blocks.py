"""YAML blocks of components, to be pasted into a recipe of SpeechBrain.

They go under the keys, and refer to those, that SpeechBrain's recipes of
classification have. A class says in ``speechbrain_values`` what its block gives
to arguments there, as far as it differs from ``yaml_values`` (see
:mod:`qlung_plugin.inference.component_blocks`), and in ``not_in_speechbrain`` why
it cannot go there.

Authors
 * qlung_plugin contributors
"""

import pydoc
import re
from typing import Any

from qlung_plugin.inference.component_blocks import TAG, comment, entry
from qlung_plugin.inference.components import Component
from qlung_plugin.nnet.losses import MarginLoss
from qlung_plugin.nnet.margins import QualityMargin
from qlung_plugin.nnet.parts import ClassValues

COST = f"{TAG}qlung_plugin.nnet.losses.MarginCost"
TAP = f"{TAG}qlung_plugin.lobes.quality.QualityTap"
TAP_REFERENCE = "!ref <compute_features>"
FEATURES = {
    f"{TAG}speechbrain.lobes.features.Fbank": {
        "n_mels": "!ref <n_mels>",
        "sample_rate": "!ref <sample_rate>",
    }
}
# Of cosines, as in SpeechBrain's recipes; of the paper's cross entropy.
MARGIN_SCALE, LOGIT_SCALE = 30.0, 37.0

# The keys there, by kind.
KEYS = {
    "compute_features": "compute_features",
    "backbone": "embedding_model",
    "classifier": "classifier",
    "lr_annealing": "lr_annealing",
}

# What arguments get that the recipes of this package have a key for.
REFERENCES = {
    "!ref <backbone.embedding_dim>": "!ref <emb_dim>",
    "!ref <num_classes>": "!ref <out_n_neurons>",
    "!ref <pretrained_weights>": "null",
}

NOTES = {
    "quality": "Measured where features are computed: MarginCost takes it.",
    "compute_features": "The recipe's sample_rate and n_mels are its own.",
    "backbone": (
        "Under compute_features goes the front end that it was trained with."
    ),
}
ON_LOGITS = (
    "It takes the logits of a classifier such as LinearClassifier. Of cosines, as"
    " of ECAPA's, they are made by a larger scale, such as 30."
)

# What has a state goes into the checkpoints of the recipe's own checkpointer.
STATEFUL = ("compute_features", "compute_cost")
RECOVERABLE = """\
# Saved in checkpoints, for a training that is interrupted
__recover_{key}:
    !apply:speechbrain.utils.checkpoints.Checkpointer.add_recoverable
    - !ref <checkpointer>
    - {key}
    - !ref <{key}>"""

# Why a kind cannot go there.
NOWHERE = {
    "augmentation": (
        "it acts on log-mels, and what recipes of SpeechBrain augment before a"
        " classifier is waveforms"
    ),
    "mixing": (
        "it mixes the targets as well, and recipes of SpeechBrain have a cost of"
        " one target per sample"
    ),
    "waveform_augmentation": (
        "it asks for qualities and the rates of the recordings, which recipes of"
        " SpeechBrain do not tell their augmentation"
    ),
    "weight_averaging": (
        "the script has to call it after each step, which those of SpeechBrain"
        " do not"
    ),
}


def speechbrain_block(name: str, components: dict[str, Component]) -> str:
    """The YAML block of a component for a recipe of SpeechBrain.

    A margin or a loss is in a ``MarginCost``, a quality in a ``QualityTap``; what
    else of the two it needs is there as well. The components are those of
    :func:`qlung_plugin.inference.components.find_components`. What cannot go
    there is a ValueError that says why.

    Example
    -------
    >>> from qlung_plugin.inference.components import find_components
    >>> print(speechbrain_block("FixedMargin", find_components()))
    # The same margin for every sample, as in ArcFace.
    compute_cost: !new:qlung_plugin.nnet.losses.MarginCost
        scale: 30.0
        loss: !new:qlung_plugin.nnet.margins.FixedMargin
            # In radians.
            margin: 0.2
    <BLANKLINE>
    # Saved in checkpoints, for a training that is interrupted
    __recover_compute_cost:
        !apply:speechbrain.utils.checkpoints.Checkpointer.add_recoverable
        - !ref <checkpointer>
        - compute_cost
        - !ref <compute_cost>
    """
    component = components[name]
    reason = NOWHERE.get(component.kind) or getattr(
        _class_of(component), "not_in_speechbrain", None
    )
    if reason:
        raise ValueError(
            f"{name} cannot go into a recipe of SpeechBrain: {reason}"
        )
    there = {
        other: candidate._replace(values=_values(candidate))
        for other, candidate in components.items()
    }
    blocks = _blocks(component, there)
    texts = [
        "\n".join(entry(key, value, 0, there)) for key, value in blocks.items()
    ]
    note = NOTES.get(component.kind, "")
    if component.kind == "loss" and "\n    scale: 1.0\n" in texts[-1]:
        note = ON_LOGITS
    texts += [
        RECOVERABLE.format(key=key)
        for key in blocks
        if key in STATEFUL and component.kind != "compute_features"
    ]
    lines = [*comment(component.description, 0), *comment(note, 0)]
    return _with_references("\n".join([*lines, "\n\n".join(texts)]))


def _blocks(
    component: Component, components: dict[str, Component]
) -> dict[str, Any]:
    """What goes under which key, as ``yaml_values`` would have it."""
    new = f"{TAG}{component.name}"
    if component.kind == "quality":
        return _tap(new)
    if component.kind in ("quality_tap", "cost"):
        return {component.key: new}
    if component.kind not in ("margin", "loss"):
        blocks: dict[str, Any] = {KEYS[component.kind]: new}
        if component.kind == "backbone":
            blocks["emb_dim"] = "!ref <embedding_model.embedding_dim>"
        if component.kind == "compute_features":
            front_end = _class_of(component)()
            blocks = {
                "sample_rate": front_end.sample_rate,
                "n_mels": front_end.n_mels,
                **blocks,
            }
        return blocks
    # What is in it decides what it needs.
    by_path = {other.path: other for other in components.values()}
    text = "\n".join(entry("loss", new, 0, components))
    parts = [
        _class_of(by_path[path])
        for path in re.findall(rf"{TAG}(\S+)", text)
        if path in by_path
    ]

    def has(base: type) -> bool:
        return any(issubclass(part, base) for part in parts)

    cost: dict[str, Any] = {}
    if has(QualityMargin):
        cost["quality"] = TAP_REFERENCE
    if has(ClassValues):
        cost["class_counts"] = "running"
    if component.kind == "margin":
        cost["scale"] = MARGIN_SCALE
    elif not issubclass(_class_of(component), MarginLoss):
        cost["scale"] = LOGIT_SCALE if has(MarginLoss) else 1.0
    blocks = _tap(f"{TAG}AudioQualityScore") if has(QualityMargin) else {}
    return {**blocks, "compute_cost": {COST: {**cost, "loss": new}}}


def _tap(quality: str) -> dict[str, Any]:
    return {
        "compute_features": {
            TAP: {"quality": quality, "compute_features": FEATURES}
        }
    }


def _class_of(component: Component) -> Any:
    """The class itself, which the catalogue only reads of."""
    return pydoc.locate(component.path)


def _values(component: Component) -> dict[str, Any]:
    """What a block gives to arguments there; what is nearest replaces the rest."""
    values = dict(component.values)
    for base in reversed(_class_of(component).__mro__):
        values.update(vars(base).get("speechbrain_values", {}))
    return values


def _with_references(text: str) -> str:
    for ours, theirs in REFERENCES.items():
        text = text.replace(ours, theirs)
    return text
