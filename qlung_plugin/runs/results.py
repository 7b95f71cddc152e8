"""From predictions to the results in a run folder: report and files.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qlung_plugin.dataio.labels import LABELS, has_normal
from qlung_plugin.runs.databases import name_database, patients_on_both_sides
from qlung_plugin.runs.folder import RunFolder
from qlung_plugin.runs.predictions import DECIMALS, write_predictions
from qlung_plugin.runs.quality_report import write_quality_analysis
from qlung_plugin.scores.duration import describe_duration, duration_alone
from qlung_plugin.scores.icbhi_score import (
    confusion_text,
    prediction_metrics,
    table_metrics,
)
from qlung_plugin.scores.intervals import (
    bootstrap_interval,
    patient_confusions,
    patient_outcomes,
)
from qlung_plugin.scores.metrics import (
    CLASS_METRICS,
    UNDEFINED,
    always_the_same,
    metrics_in,
    metrics_of_labels,
)
from qlung_plugin.scores.operating_point import (
    AT_POINT,
    describe_point,
    with_operating_point,
)
from qlung_plugin.scores.published import MARK, published_results
from qlung_plugin.scores.recordings import recording_metrics
from qlung_plugin.training.selection import describe_selection
from qlung_plugin.utils.files import write_json, write_text
from qlung_plugin.utils.text import printable_lines
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

CONFIDENCE, SEED = 0.95, 0  # of the bootstraps
PUBLISHED = ("sp", "se", "score")  # what others publish of their results


def write_run_results(
    folder: Path | str,
    tables: dict[str, pd.DataFrame],
    epochs: dict[str, int],
    data: dict[str, Any],
    labels: Sequence[str],
    partition: str,
    validated: bool = True,
    published: str | None = None,
    points: Mapping[str, Mapping[str, float] | None] | None = None,
    abnormal_share: float | None = None,
) -> dict[str, Any]:
    """Writes, and returns, what is in ``metrics.json``; and all that tells it.

    Tables of predictions and epochs are by checkpoint; of the first, it is told
    how the quality goes with the errors. ``data`` and ``partition`` say what was
    evaluated. The points are the operating points that validation chose, by
    checkpoint, if it did. Recordings are judged, too, where it is said over which
    share of abnormal cycles they are called so. Figures:
    :func:`~qlung_plugin.runs.run_figures.write_run_figures`.
    """
    run, database = RunFolder(folder), name_database(data)
    metrics, reports, abouts = {}, [], {}
    # What is computed of a table is what the file gives again.
    tables = {name: table.round(DECIMALS) for name, table in tables.items()}
    for name, table in tables.items():
        selection = describe_selection(name, validated)
        point = (points or {}).get(name)
        metrics[name] = {
            "epoch": epochs[name],
            "selection": selection,
            **evaluate_predictions(
                with_operating_point(table, point, labels),
                labels,
                both_sides=patients_on_both_sides(data),
            ),
        }
        if point is not None:
            metrics[name]["operating_point"]["offsets"] = dict(point)
        if abnormal_share is not None:
            metrics[name]["recordings"] = recording_metrics(
                table, abnormal_share
            )
        abouts[name] = {
            "data": database,
            "partition": partition,
            "protocol": data["protocol"],
            "selection": f"{selection} (epoch {epochs[name]})",
        }
        reports.append(format_report(name, metrics[name], abouts[name]))
        write_predictions(table, run.predictions(name))
    first, table = next(iter(tables.items()))
    write_quality_analysis(table, run, abouts[first], labels)
    reports.append(format_references(metrics, published))
    report = printable_lines("\n\n".join(reports))
    write_text(report, run.report)
    logger.info("Results in %s:\n%s", run.path, report)
    metrics["data"] = {**data, "partition": partition}
    write_json(metrics, run.metrics)
    return metrics


def age_group(age: pd.Series) -> pd.Series:
    """Age groups, a categorical Series, of a Series of ages in years."""
    names = ["under 3", "3 to 5", "6 to 11", "12 to 17", "18 to 64"]
    edges = [-np.inf, 3, 6, 12, 18, 65, np.inf]
    groups = pd.cut(age, edges, right=False, labels=[*names, "65 and over"])
    return groups.cat.add_categories("unknown").fillna("unknown")


def evaluate_predictions(
    table: pd.DataFrame,
    labels: Sequence[str] = LABELS,
    n_resamples: int = 10000,
    both_sides: Collection[str] = (),
) -> dict[str, Any]:
    """All figures of a table of predictions, NaN where they are undefined.

    Intervals are over patients, in percent; there are no strata of what is
    unknown of all cycles. With the classes at an operating point, see
    :func:`qlung_plugin.scores.operating_point.with_operating_point`, they are
    judged too, as ``operating_point``; else that is None. Patients on both sides
    of the split, who were trained on, are a stratum apart from all others.
    """
    metrics = table_metrics(table, labels)
    outcomes = patient_outcomes([table], labels)
    interval = bootstrap_interval(outcomes, n_resamples, CONFIDENCE, SEED)
    metrics["patients"] = outcomes.confusions.shape[1]
    metrics["interval"] = {
        **{name: list(ends) for name, ends in interval.items()},
        "confidence": CONFIDENCE,
        "resamples": n_resamples,
        "seed": SEED,
    }
    metrics["duration_alone"] = duration_alone(table, labels)
    metrics["operating_point"] = None
    if AT_POINT in table and table[AT_POINT].notna().all():
        moved = table.assign(prediction=table[AT_POINT])
        confusions = patient_confusions(moved, labels)
        interval = bootstrap_interval(confusions, n_resamples, CONFIDENCE, SEED)
        metrics["operating_point"] = {
            **point_metrics(table, labels),
            "interval": {name: list(ends) for name, ends in interval.items()},
        }
    groups = {
        name: table[name].astype(object).fillna("unknown").astype(str)
        for name in ("device", "sex", "location")
    }
    groups["age_group"] = age_group(table["age"])
    shared = table["patient"].isin(both_sides)
    sides = pd.Series("unknown", table.index)
    if shared.any():
        sides = shared.map({True: "both sides", False: "test side only"})
    groups["side_of_patient"] = sides
    metrics["strata"] = {
        name: {
            value: _stratum(rows, labels)
            for value, rows in table.groupby(groups[name], observed=True)
        }
        for name in (
            *("device", "age_group", "sex", "location"),
            "side_of_patient",
        )
        if (groups[name] != "unknown").any()
    }
    return metrics


def point_metrics(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """The figures of the classes at the operating point of a table."""
    return prediction_metrics(table["label"], table[AT_POINT], labels)


def format_report(
    name: str, metrics: dict[str, Any], data: dict[str, str]
) -> str:
    """A report to read of the figures of one evaluation, and what they are of."""
    interval, counts = metrics["interval"], metrics["counts"]
    labels = list(counts)
    ends = f"{100 * interval['confidence']:g} % interval"
    point = metrics["operating_point"]
    rows = {
        metric.name: [metrics[key], *interval[key]]
        for key, metric in metrics_in("intervals", labels).items()
        if key in interval
    }
    others = "".join(
        f"\n{metric.name}: {metrics[key]:.2f} %"
        for key, metric in metrics_of_labels(labels).items()
        if key not in interval and key in metrics
    )
    columns = ["percent", f"{ends}: from", "to"]
    scores = pd.DataFrame(rows, columns).T
    per_class = {
        metric.heading: pd.Series(metrics[key], dtype=float)
        for key, metric in CLASS_METRICS.items()
        if key in metrics
    }
    classes = pd.DataFrame({"cycles": counts, **per_class})
    about = {
        **data,
        "cycles": sum(counts.values()),
        "patients": metrics["patients"],
        **{m.heading: m.rule for m in metrics_of_labels(labels).values()},
        "interval": f"{interval['resamples']} bootstraps over the patients",
        "durations alone": describe_duration(metrics["duration_alone"])
        if has_normal(labels)
        else "none: it is for a normal class",
        "operating point": describe_point(point and point["offsets"])
        if has_normal(labels)
        else "none: it is for a normal class",
    }
    width = max(len(key) for key in about) + 1
    blocks = [
        f"{name}\n{'=' * len(name)}",
        "\n".join(f"{key + ':':<{width}} {about[key]}" for key in about),
        _text(scores.astype(float)) + others,
        *(
            [_with_intervals(point, columns, "at the operating point")]
            if point
            else []
        ),
        *_of_recordings(metrics.get("recordings"), columns),
        _text(classes, "class"),
        confusion_text(metrics["confusion"], labels),
    ]
    for kind, strata in metrics["strata"].items():
        table = pd.DataFrame.from_dict(strata, orient="index")
        shown = [key for key in metrics_in("strata", labels) if key in table]
        table = table.astype(dict.fromkeys(shown, float))
        known = metrics_of_labels(labels)
        table = table.rename(columns={key: known[key].heading for key in shown})
        blocks.append(_text(table, kind.replace("_", " ")))
    return "\n\n".join(blocks) + "\n"


def format_references(
    metrics: dict[str, dict[str, Any]],
    published: str | None = None,
) -> str:
    """The scores beside always giving one answer, and published results."""
    own = dict(metrics)
    for name, values in metrics.items():
        if values["operating_point"] is not None:
            own[f"{name}, at the operating point"] = values["operating_point"]
    counts = next(iter(metrics.values()))["counts"]
    name, floor = always_the_same(counts)
    own[name] = floor
    known = metrics_of_labels(list(counts))
    keys = [key for key in PUBLISHED if key in known]
    rows = [
        (name, *(f"{values[key]:.2f}" for key in keys))
        for name, values in own.items()
    ]
    columns = ["percent", *(known[key].heading for key in keys)]
    if published is not None:
        table = published_results(published)
        rows += [
            (f"{method} ({MARK}; selected on: {selection})", *values)
            for method, selection, *values in table[
                ["method", "selection", *PUBLISHED]
            ].to_numpy()
        ]
    table = pd.DataFrame(rows, columns=columns).set_index("percent")
    title = "Beside it"
    return f"{title}\n{'=' * len(title)}\n\n{_text(table)}\n"


def _of_recordings(
    figures: Mapping[str, Any] | None, columns: list[str]
) -> list[str]:
    """The figures of recordings as texts, if there are any."""
    if figures is None:
        return []
    counts = ", ".join(f"{n} {name}" for name, n in figures["counts"].items())
    rule = (
        f"Recordings ({counts}), abnormal where more than"
        f" {figures['abnormal_share']:.3f} of their cycles are called so:"
        " two classes, the AUROC that of this share"
    )
    return [rule, _with_intervals(figures, columns, "recordings")]


def _with_intervals(
    point: Mapping[str, Any], columns: list[str], title: str
) -> str:
    """Figures with their intervals as text."""
    rows = {
        metric.name: [point[key], *point["interval"][key]]
        for key, metric in metrics_in("intervals").items()
        if key in point
    }
    table = pd.DataFrame(rows, columns).T.astype(float)
    return _text(table, title)


def _stratum(rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, float]:
    """The figures of a part of a table of predictions."""
    metrics = table_metrics(rows, labels)
    size = {"cycles": len(rows), "patients": int(rows["patient"].nunique())}
    shown = metrics_in("strata", labels)
    return {**size, **{key: metrics[key] for key in shown if key in metrics}}


def _text(table: pd.DataFrame, corner: str = "") -> str:
    """A table to print, with two decimals."""
    table = table.rename_axis(columns=corner)
    return table.to_string(float_format="{:.2f}".format, na_rep=UNDEFINED)
