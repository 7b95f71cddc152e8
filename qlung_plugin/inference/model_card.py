"""The model card of an exported model.

Authors
 * qlung_plugin contributors
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from qlung_plugin.runs.databases import name_database
from qlung_plugin.scores.metrics import METRICS, format_number, metrics_in
from qlung_plugin.utils.files import write_text
from qlung_plugin.utils.markdown import markdown_table

CARD = "README.md"

DATABASE_TERMS = {
    "ICBHI 2017": (
        "[ICBHI 2017 Respiratory Sound Database](https://bhichallenge.med.auth.gr)"
        " (Rocha et al., 2019): its page makes it freely available for research,"
        " under no named licence."
    ),
    "SPRSound 2022": (
        "[SPRSound](https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound) (Zhang"
        " et al., 2022): its sources name different licences; ask its authors"
        " before any use other than research."
    ),
}

USE = """\
From Python:

```python
from qlung_plugin.inference.classifier import RespiratorySoundClassifier

classifier = RespiratorySoundClassifier.from_hparams("{name}")
cycles, summary = classifier.classify_file("breath.wav")
```

From the command line: `qlung classify breath.wav --model {name}`."""

PLAIN = """\
This reads `model.json` and `model.safetensors`, and runs nothing that they
hold."""

OWN = """\
**It has components of its own, which have to be installed, and trusted when it is
opened: `trust={modules}` in Python, `{options}` on the command line.**"""

SPEECHBRAIN = """\
SpeechBrain's own loader reads `hyperparams.yaml`, too, and runs whatever the YAML
says:

```python
from speechbrain.inference.interfaces import pretrained_from_hparams
from qlung_plugin.inference.classifier import RespiratorySoundClassifier

classifier = pretrained_from_hparams(RespiratorySoundClassifier, source="{name}")
```"""

ONNX_USE = """\
`model.onnx` takes `waveforms`, `[batch, {samples}]`: cycles at {rate} Hz, full
scale at 1, repeated to {seconds:g} s and faded as
`qlung_plugin.dataio.cycles.FixedLength` does it ({fade:g} ms). It returns
`probabilities`, `[batch, {classes}]`, of the classes in the order above. The
front end is in it. Its metadata has the labels, the rate and the length."""

LIMITS = """\
- **Not a medical device.** It was never tested for diagnosis, screening or
  monitoring, and must not be used for them.
- It knows only the classes above, and gives every sound one of them: speech,
  heart sounds and noise, too.
- It was trained on the devices, ages and places of its data. On recordings of
  others, expect less than the results below; look at those on another database,
  if there are any, before those on its own.
- Its probabilities are not calibrated. Its quality score tells what it was made
  of, not what a physician would say of the recording."""


def write_model_card(
    folder: Path,
    name: str,
    model: dict[str, Any],
    provenance: dict[str, Any],
    own_modules: list[str],
) -> None:
    """Writes ``README.md``: what the model is, is made of, and is worth.

    The folder has all its other files. The provenance is that of its
    ``model.json``; its own modules are those of components from outside.
    """
    usage = [USE.format(name=name), PLAIN]
    if own_modules:
        options = " ".join(f"--trust {module}" for module in own_modules)
        usage.append(OWN.format(modules=own_modules, options=options))
    if (folder / "model.onnx").exists():
        usage.append(_onnx_use(model))
    usage.append(SPEECHBRAIN.format(name=name))
    sections = {
        name: _summary(model, provenance),
        "Use": "\n\n".join(usage),
        "Limits": LIMITS,
        "Data": _data(provenance["data"]),
        "Training": _training(provenance),
        "Results": _results(provenance["results"]),
        "Licences": _licences(model, provenance),
    }
    metadata = ModelCardData(
        license="other",
        license_name="see-licences",
        license_link="#licences",
        library_name="speechbrain",
        pipeline_tag="audio-classification",
        tags=["lung-sounds", "respiratory-sounds", "speechbrain", "qlung"],
        metrics=["sensitivity", "specificity"],
        model_name=name,
        eval_results=_evaluations(provenance["results"]) or None,
    )
    parts = [f"---\n{metadata.to_yaml()}\n---"]
    for number, (heading, text) in enumerate(sections.items()):
        parts.append(f"{'##' if number else '#'} {heading}\n\n{text}")
    write_text("\n\n".join(parts) + "\n", folder / CARD)


def _summary(model: dict[str, Any], provenance: dict[str, Any]) -> str:
    rate = model["cycle_features"].resampler.sample_rate
    total, trainable = count_parameters(model)
    classes = ", ".join(f"`{label}`" for label in model["labels"])
    return (
        f"Classifies respiratory cycles as {classes}, and scores the quality of"
        " their recording. Made with qlung_plugin"
        f" {provenance['made_with']['qlung_plugin']}.\n\n"
        f"- parameters: {total / 1e6:.2f} M of front end, backbone and"
        f" classifier, of which {trainable / 1e6:.2f} M are trainable\n"
        f"- backbone: {type(model['backbone']).__name__}\n"
        f"- classifier: {type(model['classifier']).__name__}\n"
        f"- quality: {type(model['quality']).__name__}\n"
        f"- sample rate: {rate} Hz; other rates are resampled"
    )


def count_parameters(model: dict[str, Any]) -> tuple[int, int]:
    """The parameters of all that a class is computed with; the trainable ones.

    The first blocks of a backbone may be in the front end.

    Example
    -------
    >>> from torch import nn
    >>> frozen = nn.Linear(3, 2).requires_grad_(False)
    >>> model = {"cycle_features": frozen, "backbone": nn.Linear(2, 5)}
    >>> count_parameters({**model, "classifier": nn.Linear(5, 4)})
    (47, 39)
    """
    parameters = [
        parameter
        for name in ("cycle_features", "backbone", "classifier")
        for parameter in model[name].parameters()
    ]
    return (
        sum(parameter.numel() for parameter in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
    )


def _onnx_use(model: dict[str, Any]) -> str:
    fix_length = model["cycle_features"].fix_length
    rate = model["cycle_features"].resampler.sample_rate
    return ONNX_USE.format(
        samples=fix_length.length,
        rate=rate,
        seconds=fix_length.length / rate,
        fade=1000 * fix_length.fade_samples / rate,
        classes=len(model["labels"]),
    )


def _data(data: dict[str, Any] | None) -> str:
    if data is None:
        return "Its data are not known."
    columns = ["patients", "recordings", "cycles"]
    rows = [
        [
            name,
            *(part[key] for key in columns),
            ", ".join(f"{k} {v}" for k, v in part["counts"].items()),
        ]
        for name, part in data.get("partitions", {}).items()
    ]
    table = pd.DataFrame(rows, columns=["partition", *columns, ""])
    lines = [f"{name_database(data)}: {data['protocol']}.", ""]
    lines.append(markdown_table(table))
    both = data.get("patients_on_both_sides")
    if both:
        lines += ["", f"Patients in training and test: {', '.join(both)}."]
    supervision = data.get("quality_supervision")
    if supervision:
        lines += [
            "",
            f"The quality score was learned from {supervision['database']}.",
        ]
    return "\n".join(lines)


def _training(provenance: dict[str, Any]) -> str:
    lines = [
        f"- checkpoint: {provenance['checkpoint']}, epoch {provenance['epoch']}"
    ]
    for key, value in provenance["settings"].items():
        lines.append(f"- {key}: {_setting(value)}")
    return "\n".join(lines)


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


def _results(results: list[dict[str, Any]]) -> str:
    if not results:
        return "None are known: the training had not come to its end."
    rules = [
        f"- {metric.heading}: {metric.rule}." for metric in METRICS.values()
    ]
    floor = "\nAlways answering normal has a Score of 50.\n"
    return "\n".join([*rules, floor, *map(_result, results)])


def _result(result: dict[str, Any]) -> str:
    data, interval = result["data"], result["interval"]
    rows = [
        [
            metric.name,
            format_number(result[key]),
            " to ".join(map(format_number, interval[key])),
        ]
        for key, metric in metrics_in("intervals").items()
    ]
    ends = f"{100 * interval['confidence']:g} % interval over patients"
    lines = [
        f"### {name_database(data)}: {data['partition']}",
        "",
        f"{sum(result['counts'].values())} cycles, {result['patients']} patients."
        f" The epoch was selected by: {result['selection']}.",
        "",
        markdown_table(pd.DataFrame(rows, columns=["percent", "", ends])),
    ]
    recalls = (f"{k} {format_number(v)}" for k, v in result["recall"].items())
    lines += ["", f"Recall in percent: {', '.join(recalls)}.", ""]
    return "\n".join(lines)


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
            metric_name=f"{METRICS[key].name}, percent",
            metric_value=round(result[key], 2),
        )
        for result in results
        for key, metric in (
            ("sp", "specificity"),
            ("se", "sensitivity"),
            ("score", "icbhi_score"),
        )
        if result[key] is not None
    ]


def _licences(model: dict[str, Any], provenance: dict[str, Any]) -> str:
    data = provenance["data"] or {}
    databases = [data.get("database")]
    supervision = data.get("quality_supervision")
    if supervision and supervision["database"] not in databases:
        databases.append(supervision["database"])
    lines = [
        "The code is Apache-2.0. The weights follow from what they were trained"
        " on, so check the terms of all of it before you pass them on:",
        "",
    ]
    lines += [
        f"- {DATABASE_TERMS.get(name, f'{name}: see its authors.')}"
        for name in databases
        if name
    ]
    weights = provenance["settings"].get("pretrained_weights")
    if weights not in (None, "none"):
        backbone = type(model["backbone"])
        origin = getattr(backbone, "weights_origin", None) or backbone.__name__
        lines.append(
            f"- Pretrained weights `{weights}`, for {origin}: check the terms of"
            " their authors."
        )
    return "\n".join(lines)
