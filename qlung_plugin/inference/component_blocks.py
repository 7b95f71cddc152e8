"""YAML blocks of components, to be pasted into a recipe.

Authors
 * qlung_plugin contributors
"""

import ast
import textwrap
from typing import NamedTuple

import yaml

WIDTH = 80
INDENT = 4


class New(NamedTuple):
    """An object within a block, made by ``!new:``."""

    name: str  # of a component, or the path of another class
    values: dict  # what differs from the component's own


# What blocks give to arguments, by component or, else, by key of the recipes;
# all others get their default. "!ref" is to a key that the recipes have.
VALUES = {
    "quality.sample_rate": 16000,  # its own, whatever the backbone's is
    "ConstantQuality.value": 0.5,
    "ManifestQuality.column": "listeners",
    "WeightedQuality.measures": [New("SNRScore", {}), New("ClippingScore", {})],
    "WeightedQuality.weights": [0.5, 0.5],
    "backbone.pretrained_weights": "!ref <pretrained_weights>",
    "backbone.embedding_dim": 192,
    "backbone.config": {},  # which the command line may fill, unlike null
    "EfficientAT.width_mult": "!ref <width_mult>",
    "EfficientAT.first_block": "!ref <frozen_blocks>",
    "EmbeddingModel.model": New(
        "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
        {"input_size": 80, "lin_neurons": 192},
    ),
    "classifier.input_size": "!ref <backbone.embedding_dim>",
    "classifier.num_classes": "!ref <num_classes>",
    "margin.num_classes": "!ref <num_classes>",
    "FixedMargin.margin": 0.2,
    "MarginSchedule.margin": New("FixedMargin", {}),
    "MarginSchedule.duration": 5,
    "WeightedMargin.margins": [
        New("QualityMargin", {}),
        New("ClassImbalanceMargin", {}),
    ],
    "WeightedMargin.weights": [0.5, 0.5],
    "loss.num_classes": "!ref <num_classes>",
    "AdaFaceLoss.margin": New("FixedMargin", {"margin": 0.4}),
    "AngularMarginLoss.margin": New("WeightedMargin", {}),
    "CosineMarginLoss.margin": New("FixedMargin", {"margin": 0.35}),
    "MagFaceLoss.margin": New("MagFaceMargin", {}),
    "MarginRegularizedLoss.margin_loss": New("AngularMarginLoss", {}),
    "WaveformAugmentation.augmenter": New(
        "speechbrain.augment.augmenter.Augmenter",
        {
            "augmentations": [
                New("speechbrain.augment.time_domain.DropFreq", {})
            ]
        },
    ),
    "WaveformAugmentation.fix_length": "!ref <fix_length>",
    "WaveformAugmentation.sample_rate": "!ref <sample_rate>",
    "WaveformAugmentation.quality": "!ref <quality>",
    "lr_annealing.initial_value": "!ref <lr>",
    "lr_annealing.final_value": "!ref <final_lr>",
    "lr_annealing.epoch_count": "!ref <number_of_epochs>",
}

# What an argument gets that is required and not in VALUES.
UNKNOWN = "!PLACEHOLDER"

NOTES = {
    "margin": "It goes into a margin loss: indent it as the loss's scale.",
}


def yaml_block(name, components):
    """The YAML block of a component with all its arguments.

    Arguments
    ---------
    name : str
        Of a component.
    components : dict
        What :func:`qlung_plugin.inference.components.find_components` found.

    Returns
    -------
    str
        A key of the recipes and what it may be, with comments.

    Example
    -------
    >>> from qlung_plugin.inference.components import find_components
    >>> print(yaml_block("QualityMargin", find_components()))
    # A margin proportional to the quality of the recording: kappa * q.
    # It goes into a margin loss: indent it as the loss's scale.
    margin: !new:qlung_plugin.nnet.margins.QualityMargin
        # Margin at quality 1, in radians.
        kappa: 0.5
    """
    component = components[name]
    lines = [
        *_comment(component.description, 0),
        *_comment(NOTES.get(component.key, ""), 0),
        *_entry(component.key, New(name, {}), 0, components),
    ]
    return "\n".join(lines)


def _comment(text, indent):
    start = " " * indent + "# "
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _entry(key, value, indent, components):
    """The lines of a key and its value."""
    start = f"{' ' * indent}{key}:"
    if isinstance(value, New):
        return _object(f"{start} ", value, indent + INDENT, components)
    if isinstance(value, list) and isinstance(value[0], New):
        dash = " " * (indent + INDENT) + "- "
        items = [_object(dash, new, len(dash), components) for new in value]
        return [start, *sum(items, [])]
    return [f"{start} {_plain(value)}"]


def _object(start, new, indent, components):
    """The lines of an object; its arguments are indented."""
    if new.name not in components:
        lines = [f"{start}!new:{new.name}"]
        for key, value in new.values.items():
            lines.extend(_entry(key, value, indent, components))
        return lines
    component = components[new.name]
    lines = [f"{start}{component.tag}"]
    for argument in component.arguments:
        value = new.values.get(argument.name, _value(component, argument))
        lines.extend(_comment(argument.description, indent))
        lines.extend(_entry(argument.name, value, indent, components))
    return lines


def _value(component, argument):
    """What a block gives to an argument."""
    for scope in (component.name, component.key):
        if f"{scope}.{argument.name}" in VALUES:
            return VALUES[f"{scope}.{argument.name}"]
    if argument.default is None:
        return UNKNOWN
    return ast.literal_eval(argument.default)


def _plain(value):
    """A value on one line of YAML."""
    if isinstance(value, str) and value.startswith("!"):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").rstrip("\n")
