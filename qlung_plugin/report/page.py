"""From runs to one HTML file.

Authors
 * qlung_plugin contributors
"""

import base64
import hashlib
import math
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qlung_plugin import __version__
from qlung_plugin.figures.quality import quality_and_errors_figure
from qlung_plugin.figures.results import (
    quality_histogram_figure,
    training_curves_figure,
)
from qlung_plugin.figures.style import COLORS
from qlung_plugin.report import tables
from qlung_plugin.report.charts import stack_panels, svg
from qlung_plugin.report.media import frequency_ticks
from qlung_plugin.report.recordings import Recordings
from qlung_plugin.report.sources import Run
from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.runs.predictions import METADATA
from qlung_plugin.scores.duration import describe_duration
from qlung_plugin.scores.metrics import (
    CLASS_METRICS,
    always_the_same,
    format_number,
    metrics_in,
    metrics_of_labels,
)
from qlung_plugin.scores.quality_analysis import (
    compare_with_errors,
    measure_name,
)
from qlung_plugin.scores.roc import format_area
from qlung_plugin.training.selection import CHECKPOINTS

MAP_NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


def render_page(
    runs: list[Run],
    evaluations: list[Evaluation],
    notes: list[str],
    recordings: Recordings,
    method: str = "tsne",
) -> str:
    """The page as HTML that loads nothing: runs in detail, evaluations compared."""
    environment = Environment(
        loader=PackageLoader("qlung_plugin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    labels = runs[0].evaluation.labels
    _, floor = always_the_same(runs[0].evaluation.counts)
    environment.filters |= {
        "percent": format_number,
        "area": format_area,
        "described": describe_duration,
        "measure_name": measure_name,
    }
    script = _template("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest())
    quality, training = _quality(runs), _training(runs)
    scores = tables.score_tables(runs)
    return environment.get_template("page.html").render(
        title=_enumerate([run.name for run in runs]),
        version=__version__,
        script=Markup(script),
        script_hash=f"sha256-{digest.decode()}",
        style=Markup(_template("page.css")),
        colors=COLORS,
        runs=runs,
        labels=labels,
        single_figures={
            key: metric
            for key, metric in metrics_of_labels(labels).items()
            if key not in metrics_in("tables", labels)
        },
        class_metrics=CLASS_METRICS,
        group_metrics=metrics_in("strata", labels),
        score_metrics=metrics_in("tables", labels),
        floor=floor,
        durations=runs[0].figures["duration_alone"],
        checkpoints=CHECKPOINTS,
        notes=notes,
        facts=_facts(runs),
        scores=scores,
        axis=tables.score_axis(scores, floor["score"]),
        comparisons=tables.comparison_tables(evaluations),
        strata=runs[0].figures["strata"],
        quality=quality,
        training=training,
        recordings=recordings,
        map_name=MAP_NAMES.get(method, ""),
        devices=sorted(set(_texts(runs[0].predictions["device"]))),
        data=_data(runs, recordings),
    )


def _template(name: str) -> str:
    path = files("qlung_plugin.report") / "templates" / name
    return path.read_text(encoding="utf-8")


def _enumerate(names: list[str]) -> str:
    """Names as one writes them in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _facts(runs: list[Run]) -> dict[str, str]:
    """What the figures are of, as pairs of texts."""
    first = runs[0].evaluation
    figures = runs[0].figures
    interval = figures["interval"]
    facts = {
        "Data": first.database,
        "Partition": f"{first.partition}:"
        f" {sum(figures['counts'].values()):,} cycles of"
        f" {figures['patients']:,} patients",
        **{m.heading: m.rule for m in metrics_of_labels(first.labels).values()},
        "Intervals": f"{100 * interval['confidence']:g} %, by"
        f" {interval['resamples']:,} bootstraps over the patients",
    }
    for run in runs:
        evaluation = run.evaluation
        text = f"{evaluation.selection} (epoch {evaluation.epoch})"
        text += f"; {evaluation.protocol}"
        if evaluation.supervision:
            database = evaluation.supervision["database"]
            text += f"; its quality was learned from {database}"
        facts[f"{run.name}, {evaluation.checkpoint.replace('_', '-')}"] = text
    return facts


def _quality(runs: list[Run]) -> list[dict[str, Any]]:
    """Per run a histogram, curves, and a table of the quality measures."""
    quality = []
    for number, run in enumerate(runs):
        table, labels = run.predictions, run.evaluation.labels
        heading = metrics_of_labels(labels)["score"].heading
        analysis = compare_with_errors(table, labels)
        histogram = quality_histogram_figure(
            table["quality"], table["label"], labels, ""
        )
        histogram.axes[-1].set_xlabel("quality (0 worst, 1 best)")
        panels = len(histogram.axes)
        quality.append(
            {
                "missing": int(table["quality"].isna().sum()),
                "histogram": svg(
                    stack_panels(histogram, 1.1 + 0.6 / panels),
                    f"quality-{number}",
                ),
                "curves": svg(
                    stack_panels(
                        quality_and_errors_figure(table, analysis, "", heading)
                    ),
                    f"errors-{number}",
                ),
                "measures": analysis,
            }
        )
    return quality


def _training(runs: list[Run]) -> list[dict[str, Any]]:
    """Curves of the trainings by their run, where there is a history."""
    training = []
    for number, run in enumerate(runs):
        if run.history is None:
            continue
        figure = stack_panels(training_curves_figure(run.history))
        database = run.evaluation.database
        trained = run.evaluation.data.get("training") or {}
        if trained.get("data"):
            database = trained["data"]["database"]
        training.append(
            {
                "run": run.name,
                "database": database,
                "epochs": len(run.history),
                "curves": svg(figure, f"training-{number}"),
            }
        )
    return training


def _data(runs: list[Run], recordings: Recordings) -> dict[str, Any]:
    """What the script of the page works on."""
    first = runs[0].predictions
    labels = list(runs[0].evaluation.labels)
    cycles: dict[str, list[str] | list[int]] = {
        name: _texts(first[name]) for name in METADATA
    }
    cycles["id"] = first["id"].tolist()
    cycles["label"] = [labels.index(name) for name in first["label"]]
    return {
        "labels": labels,
        "cycles": cycles,
        "spans": [recordings.spans.get(key) for key in first["id"]],
        "media": [recordings.media.get(key) for key in first["id"]],
        "frequencies": frequency_ticks(),
        "runs": [
            {
                "name": run.name,
                "prediction": [
                    labels.index(name) for name in run.predictions["prediction"]
                ],
                "probabilities": [
                    [round(value, 4) for value in row]
                    for row in run.predictions[
                        [f"p_{name}" for name in labels]
                    ].values.tolist()
                ],
                "quality": [
                    None if math.isnan(value) else round(value, 4)
                    for value in run.predictions["quality"]
                ],
                "map": recordings.maps.get(run.name),
            }
            for run in runs
        ],
    }


def _texts(column: Iterable[Any]) -> list[str]:
    """A column to print; what is missing is unknown."""
    return [
        "unknown"
        if pd.isna(value)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
        for value in column
    ]
