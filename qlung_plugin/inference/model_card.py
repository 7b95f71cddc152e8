"""The model card of an exported model.

Authors
 * qlung_plugin contributors
"""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from qlung_plugin.dataio.labels import has_normal
from qlung_plugin.inference.architecture import own_modules
from qlung_plugin.inference.model_checks import PARTS
from qlung_plugin.lobes.features import NormalisedFeatures
from qlung_plugin.runs.databases import name_database
from qlung_plugin.scores.metrics import (
    CLASS_METRICS,
    always_the_same,
    format_number,
    metrics_in,
    metrics_of_labels,
)
from qlung_plugin.scores.operating_point import describe_point
from qlung_plugin.utils.files import write_text

CARD, LICENCE = "README.md", "LICENSE"
TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"

# The figures that the hub lists, and what it calls them.
LISTED = {
    "sp": "specificity",
    "se": "sensitivity",
    "score": "icbhi_score",
    "auroc": "roc_auc",
}


def write_model_card(
    folder: Path,
    name: str,
    model: dict[str, Any],
    description: dict[str, Any],
    note: str = "",
) -> None:
    """Writes ``README.md``: what the model is, is made of, and is worth.

    The folder has all its other files. The description is its ``model.json``;
    the note is for what that cannot know of the data.
    """
    provenance = description["provenance"]
    architecture = description["architecture"]
    metadata = ModelCardData(
        license="other",
        license_name="see-licences",
        license_link="#licences",
        library_name="speechbrain",
        pipeline_tag="audio-classification",
        tags=["lung-sounds", "respiratory-sounds", "speechbrain", "qlung"],
        metrics=["sensitivity", "specificity"]
        if has_normal(model["labels"])
        else ["recall"],
        model_name=name,
        eval_results=_evaluations(provenance["results"]) or None,
    )
    # The first blocks of a backbone may be in the front end.
    parameters = [
        parameter
        for part in ("cycle_features", "backbone", "classifier")
        for parameter in model[part].parameters()
    ]
    data, labels = provenance["data"] or {}, model["labels"]
    of_quality = data.get("quality_supervision") or {}
    databases = [data.get("database"), of_quality.get("database")]
    base = origin = provenance.get("base")
    while origin:
        databases += [(origin["data"] or {}).get("database")]
        origin = origin["base"]
    backbone = type(model["backbone"])
    origins = read_everywhere(model, "weights_origin")
    card = ModelCard.from_template(
        metadata,
        template_str=TEMPLATE.read_text("utf-8"),
        **{
            **provenance,
            "model_name": name,
            "labels": labels,
            "parameters": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
            "backbone": backbone.__name__,
            "classifier": type(model["classifier"]).__name__,
            "quality": type(model["quality"]).__name__,
            "rate": model["cycle_features"].resampler.sample_rate,
            "fix_length": model["cycle_features"].fix_length,
            "normalised": _normalised(model["cycle_features"].compute_features),
            "onnx": (folder / "model.onnx").exists(),
            "own_modules": own_modules(architecture),
            "cycle_features": architecture["cycle_features"],
            "note": note,
            "licence": (folder / LICENCE).exists(),
            "databases": list(dict.fromkeys(filter(None, databases))),
            "weights": provenance["settings"].get("pretrained_weights"),
            "weights_origin": ", ".join(origins) or backbone.__name__,
            "metrics": metrics_of_labels(labels),
            "class_metrics": CLASS_METRICS,
            "point": describe_point(
                provenance.get("operating_point"),
                provenance.get("operating_point_rule"),
            ),
            "base": base,
            "intervals": metrics_in("intervals", labels),
            "compared": metrics_in("tables", labels),
            "always_the_same": always_the_same,
            "calibration": provenance.get("calibration"),
            "abstention": provenance.get("abstention"),
            "name_database": name_database,
            "number": format_number,
            "setting": _setting,
        },
    )
    write_text(str(card), folder / CARD)


def _normalised(features: Any) -> str:
    """By what of the recording features are normalised; empty if by nothing."""
    if not isinstance(features, NormalisedFeatures):
        return ""
    level = features.level
    parts = []
    if level is not None:
        parts.append(
            f"{level.rms_db:g} dB RMS from {level.f_min:g} to"
            f" {level.f_max:g} Hz"
        )
    if features.spectral_mean:
        parts.append("spectral mean subtracted")
    return ", ".join(parts)


def write_notices(folder: Path, model: dict[str, Any]) -> None:
    """Writes ``LICENSE``, if the weights that a model began with ask for it."""
    notices = read_everywhere(model, "weights_notice")
    if notices:
        texts = (path.read_text("utf-8") for path in notices)
        write_text("\n".join(texts), folder / LICENCE)


def read_everywhere(model: dict[str, Any], attribute: str) -> list[Any]:
    """The values that the modules of a model have of an attribute."""
    modules = (module for part in PARTS for module in model[part].modules())
    values = (getattr(module, attribute, None) for module in modules)
    return list(dict.fromkeys(filter(None, values)))


def _setting(value: Any) -> str:
    """A setting in a line, classes without their packages."""
    if isinstance(value, dict) and "class" in value:
        name = str(value["class"]).rpartition(".")[2]
        arguments = value.get("arguments", {})
        if isinstance(arguments, dict):
            named = (f"{k}={_setting(v)}" for k, v in arguments.items())
            return f"{name}({', '.join(named)})"
        return f"{name}({', '.join(map(_setting, arguments))})"
    if isinstance(value, list):
        return f"[{', '.join(map(_setting, value))}]"
    return str(value)


def _evaluations(results: list[dict[str, Any]]) -> list[EvalResult]:
    """The figures as the hub lists them."""
    return [
        EvalResult(
            task_type="audio-classification",
            dataset_type=re.sub(
                r"\W+", "-", result["data"]["database"]
            ).lower(),
            dataset_name=name_database(result["data"]),
            dataset_split=result["data"]["partition"],
            metric_type=metric,
            metric_name=f"{known[key].name}, percent",
            metric_value=round(result[key], 2),
        )
        for result in results
        for known in (metrics_of_labels(list(result["counts"])),)
        for key, metric in (
            LISTED if "sp" in known else {"score": "recall"}
        ).items()
        if result[key] is not None
    ]
