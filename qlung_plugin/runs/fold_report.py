"""What results.md shows of pooled folds besides: devices, and recordings.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from qlung_plugin.dataio.labels import TWO_CLASSES, has_normal
from qlung_plugin.runs.comparison import (
    format_difference,
    format_interval,
    format_mean,
)
from qlung_plugin.runs.evaluations import Evaluation
from qlung_plugin.runs.experiments import BY_DEVICE
from qlung_plugin.scores.by_device import bootstrap_macro_auroc, device_figures
from qlung_plugin.scores.icbhi_score import table_metrics
from qlung_plugin.scores.metrics import METRICS, format_number
from qlung_plugin.scores.operating_point import choose_operating_point
from qlung_plugin.scores.recordings import call_recordings, choose_share
from qlung_plugin.scores.roc import percentile_interval
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.markdown import markdown_table

DEVICES_NOTE = """\
Each device by models that never heard it, nor its patients. Transfer is selected
by the macro mean of the AUROC (abnormal against normal), in which each device
counts alike; the table above is of all held-out cycles, from which comes the
offset of normal, the operating point of the highest Score on all of them. Intervals
of the macro mean and of its difference to the first configuration, with as many
seeds, are 95 % over the patients of each device and over seeds, not over devices.
"""
RECORDINGS_NOTE = """\
A recording is abnormal if any of its cycles is; it is called so where more than
this share of them is called abnormal. The share is that of the highest Score over
all seeds, so that the Score is optimistic here. It is what `--abnormal_share` of
an evaluation takes.
"""


def fold_blocks(evaluations: list[Evaluation]) -> list[str]:
    """The blocks of a section on pooled folds; of other sections there are none."""
    first, blocks = evaluations[0], []
    if first.fold == BY_DEVICE:
        blocks.append("### By held-out device\n")
        blocks += [DEVICES_NOTE, _device_table(evaluations)]
    in_distribution = first.fold and not first.data.get("training")
    if (
        in_distribution
        and has_normal(first.labels)
        and all(e.predictions["recording"].notna().all() for e in evaluations)
    ):
        blocks.append("### Recordings, by the share of their abnormal cycles\n")
        blocks += [RECORDINGS_NOTE, _recording_table(evaluations)]
    return blocks


def _device_table(evaluations: list[Evaluation]) -> str:
    """Mean and deviation over the seeds of the figures of each device."""
    rows, columns = [], []
    baselines: dict[str, tuple[int, float, np.ndarray]] = {}
    for checkpoint, name, seeds in _seeds(evaluations):
        labels = seeds[0].labels
        figures = [device_figures(e.predictions, labels) for e in seeds]
        table = pd.concat([found.stack() for found in figures], axis=1)
        # The one that decides comes first.
        table = table.iloc[[-2, -1, *range(len(table) - 2)]]
        columns = [
            f"{'AUROC' if key == 'auroc' else 'Score'}, {device}"
            for device, key in table.index
        ]
        columns[1:1] = ["95 % interval", "to the first"]
        cells = [*map(format_mean, table.mean(axis=1), table.std(axis=1))]
        drawn = bootstrap_macro_auroc([e.predictions for e in seeds], labels)
        ours = len(seeds), table.iloc[0].mean(), drawn
        first = baselines.setdefault(checkpoint, ours)
        interval = format_interval(*percentile_interval(drawn, 0.95))
        cells[1:1] = [interval, _difference(ours, first)]
        held_out = pd.concat([e.predictions for e in seeds])
        point = choose_operating_point(held_out, labels) or {}
        offset = format_number(point.get(labels[0]), "+.2f")
        rows.append([checkpoint, name, len(seeds), *cells, offset])
    columns = ["Checkpoint", "Configuration", "Seeds", *columns]
    return _table([*columns, "Offset of normal"], rows)


def _difference(
    one: tuple[int, float, np.ndarray], first: tuple[int, float, np.ndarray]
) -> str:
    """Of seeds, macro mean and its resamples to those of the first, in pairs."""
    if one is first or one[0] != first[0]:
        return ""
    ends = percentile_interval(one[2] - first[2], 0.95)
    return format_difference(one[1] - first[1], *ends)


def _recording_table(evaluations: list[Evaluation]) -> str:
    """The share that decides, and what recordings get by it."""
    rows, keys = [], ("sp", "se", "score", "auroc")
    for checkpoint, name, seeds in _seeds(evaluations):
        table = pd.concat(
            e.predictions.assign(
                recording=e.predictions["recording"] + f", seed {e.seed}"
            )
            for e in seeds
        )
        share = choose_share(table)
        if share is not None:
            called = call_recordings(table, share)
            figures = table_metrics(called, TWO_CLASSES)
            cells = [format_number(figures[key]) for key in keys]
            rows.append([checkpoint, name, f"{share:.3f}", *cells])
    headings = [METRICS[key].heading for key in keys]
    return _table(["Checkpoint", "Configuration", "Share", *headings], rows)


def _seeds(
    evaluations: list[Evaluation],
) -> Iterator[tuple[str, str, list[Evaluation]]]:
    """The seeds of each checkpoint and configuration, and what these are."""
    for checkpoint in CHECKPOINTS:
        by_name: dict[str, list[Evaluation]] = {}
        for evaluation in evaluations:
            if evaluation.checkpoint == checkpoint:
                by_name.setdefault(evaluation.configuration, []).append(
                    evaluation
                )
        for name, seeds in by_name.items():
            yield checkpoint.replace("_", "-"), name, seeds


def _table(columns: list[str], rows: Any) -> str:
    return markdown_table(pd.DataFrame(rows, columns=columns)) + "\n"
