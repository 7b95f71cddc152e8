"""``qlung probe``: what a linear classifier makes of embeddings and labels.

Authors
 * qlung_plugin contributors
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qlung_plugin.utils.text import print_note, printable, printable_lines

if TYPE_CHECKING:
    import pandas as pd

HELP = "judge embeddings by a linear classifier of labels of one's own"

DESCRIPTION = """\
Trains a linear classifier on embeddings, and judges it on patients that it has
not seen."""

EXAMPLES = """\
LABELS is a .csv with the columns recording (or path), label and patient, and,
where a label is not of the whole recording, start and end in seconds: those of
a row of the embeddings, to a hundredth. A recording may be named by its file
name, if no other is called so.

It is a logistic regression on standardised embeddings, in which classes weigh
the same. Each of 5 parts of the patients is judged by the others, which choose
the regularisation among themselves. Intervals are of 95 %, by resampling
patients. If one class is normal, there are the Score, specificity, sensitivity,
and the AUROC of abnormal against normal.

examples:
  qlung probe embeddings.npz --labels labels.csv
  qlung probe embeddings.npz --labels labels.csv --output predictions.csv"""

NORMAL = "normal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "embeddings", help="a .csv, .npz or .parquet of `qlung embed`"
    )
    parser.add_argument(
        "--labels",
        required=True,
        metavar="LABELS",
        help="the labels and patients, see below",
    )
    parser.add_argument(
        "--normal-label",
        metavar="LABEL",
        help=f"which label is normal (default: {NORMAL}, if there is such a one)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the predictions, each by a model that has not seen the"
        " patient, to this .csv",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints how well a linear classifier does, and writes its predictions.

    If there is nothing to be learned, it is a ValueError.
    """
    from qlung_plugin.dataio.embedding_tables import (
        embedding_columns,
        read_embeddings,
        write_rows,
    )
    from qlung_plugin.dataio.row_labels import label_rows
    from qlung_plugin.scores.probe import probe

    if arguments.output and Path(arguments.output).suffix.lower() != ".csv":
        raise ValueError(f"--output {arguments.output} is to end in .csv")
    table, notes = label_rows(
        read_embeddings(arguments.embeddings), arguments.labels
    )
    columns = embedding_columns(table)
    known = table[columns].notna().all(axis=1)
    if not known.all():
        notes.append(
            f"{(~known).sum()} of {len(table)} labelled rows are left out: there"
            " is nothing to hear in them, so they have no embedding"
        )
    table = table[known]
    labels, normal = order_labels(table["label"], arguments)
    for note in notes + doubts(table):
        print_note(note)
    kept = ["recording", "start", "end", "label", "patient", *columns]
    predictions = probe(table[kept], labels)
    if arguments.output is not None:
        write_rows(predictions, arguments.output)
    print_figures(predictions, labels, normal, len(columns))
    return 0


def order_labels(
    found: "pd.Series", arguments: argparse.Namespace
) -> tuple[list[str], str | None]:
    """The labels, normal first, and which that is, if one is.

    A ValueError if there is one alone, or not the one that is called normal.
    """
    labels = sorted(found.unique())
    if len(labels) < 2:
        told = f"of one label, {labels[0]}" if labels else "none"
        raise ValueError(
            f"{arguments.labels}: the rows that have an embedding are {told}:"
            " there is nothing to tell apart"
        )
    wanted = arguments.normal_label or NORMAL
    normal = wanted if wanted in labels else None
    if arguments.normal_label and normal is None:
        raise ValueError(
            f"--normal-label {wanted} is no label of {arguments.labels}: there"
            f" are {', '.join(labels)}"
        )
    return sorted(labels, key=lambda label: label != normal), normal


def doubts(table: "pd.DataFrame") -> list[str]:
    """What there is too little of, in sentences."""
    from qlung_plugin.scores.judgement import FEW_PATIENTS

    count = table["patient"].nunique()
    told = []
    if count < FEW_PATIENTS:
        told.append(
            f"{count} patients are few: with less than {FEW_PATIENTS}, the"
            " figures say little of others"
        )
    patients = table.groupby("label")["patient"].nunique()
    lone = patients.index[patients == 1].tolist()
    if lone:
        told.append(
            f"of one patient alone, so never both learned and judged:"
            f" {', '.join(lone)}"
        )
    return told


def print_figures(
    predictions: "pd.DataFrame",
    labels: list[str],
    normal: str | None,
    dimensions: int,
) -> None:
    """Prints the figures of predictions, with intervals, and their confusion."""
    import pandas as pd

    from qlung_plugin.scores.icbhi_score import confusion_text
    from qlung_plugin.scores.judgement import judge

    figures = judge(predictions, labels, normal is not None)
    counts = predictions["label"].value_counts()
    told = ", ".join(f"{counts[label]:,} {label}" for label in labels)
    print(
        f"{len(predictions):,} rows of {predictions['patient'].nunique():,}"
        f" patients: {printable(told)}"
    )
    folds = predictions["fold"].nunique()
    print(f"{dimensions:,} dimensions, {folds} folds of patients\n")
    always = printable(f"always {normal or counts.idxmax()}")
    print(f"{'%':12} {'probe':>6}  {'95 % interval':14}  {always}")
    for name, row in figures.iterrows():
        interval = f"{row['low']:.1f} to {row['high']:.1f}"
        print(
            f"{name:12} {row['value']:6.1f}  {interval:14}  {row['always']:.1f}"
        )
    truth, called = (
        pd.Categorical(predictions[name], labels)
        for name in ("label", "prediction")
    )
    confusion = pd.crosstab(truth, called, dropna=False)
    print(f"\n{printable_lines(confusion_text(confusion, labels))}")
