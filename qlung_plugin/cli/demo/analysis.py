"""What the demo's page says of a recording: in words, a picture and a table.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from qlung_plugin.dataio.labels import NORMAL
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.figures.cycles import NARROW, WIDE, draw_cycles
from qlung_plugin.inference.classification import (
    UNCALLED,
    UNCERTAIN,
    UNUSABLE,
    Classification,
)
from qlung_plugin.inference.classifier import RespiratorySoundClassifier

LONGEST = 10  # minutes of a recording


class Analysis(NamedTuple):
    """What the page shows of a recording."""

    summary: str  # in Markdown
    picture: str  # HTML, for wide and for narrow screens
    table: pd.DataFrame  # a row per cycle, numbers as text
    recording: Recording  # to hear the cycles
    times: list[tuple[float, float]]  # start and end of each cycle in seconds


def analyse(
    model: RespiratorySoundClassifier,
    path: Path | str,
    cycles: Path | str = "segmentation",
) -> Analysis:
    """Classifies a recording, for people who look rather than compute.

    The cycles are ``segmentation``, ``windows``, or an annotation. It is a
    FileNotFoundError if a file is not there; a ValueError if the recording is no
    audio, empty, damaged, or longer than :data:`LONGEST` minutes, or the
    annotation does not fit.
    """
    recording = Recording(path)
    if recording.duration > 60 * LONGEST:
        raise ValueError(
            f"{path} is {recording.duration / 60:.1f} minutes long: the page"
            f" takes at most {LONGEST}; `qlung classify` has no limit"
        )
    classification = model.classify_file(path, cycles)
    table = classification.cycles
    return Analysis(
        describe(classification),
        draw(recording, table, model.labels),
        tabulate(table, model.labels),
        recording,
        list(zip(table["start"], table["end"])),
    )


def draw(recording: Recording, cycles: pd.DataFrame, labels: list[str]) -> str:
    """The picture of the page, of which the style shows the one that fits."""
    about = "Spectrogram, and below it the cycles of the table"
    return "".join(
        f'<div class="{shape.name}">'
        f"{draw_cycles(recording, cycles, labels, shape, about)}</div>"
        for shape in (WIDE, NARROW)
    )


def describe(classification: Classification) -> str:
    """The summary in Markdown, with the rules by which it is made."""
    cycles, summary = classification
    channels = summary["channels"]
    averaged = ", averaged" if channels > 1 else ""
    recording = (
        f"Recording: {summary['duration']:.1f} s at"
        f" {summary['sample_rate']:,} Hz,"
        f" {_count(channels, 'channel')}{averaged}."
    )
    source = _source(summary)
    if cycles.empty:
        return f"### No cycle\n\n{source}\n\n{recording}"
    abnormal = int((~cycles["prediction"].isin([NORMAL, *UNCALLED])).sum())
    usable = int((cycles["prediction"] != UNUSABLE).sum())
    uncertain = int((cycles["prediction"] == UNCERTAIN).sum())
    head = "### No usable cycle"
    if summary["abnormal_fraction"] is not None:
        head = (
            f"### {abnormal} of {_count(usable - uncertain, 'cycle')}"
            f" ({100 * summary['abnormal_fraction']:.0f} %) not normal"
        )
    elif usable:
        counts = (
            cycles["prediction"]
            .drop(cycles.index[cycles["prediction"] == UNUSABLE])
            .value_counts()
        )
        head = "### " + ", ".join(f"{n} {name}" for name, n in counts.items())
    if usable < len(cycles):
        head += (
            f"\n\n{_count(len(cycles) - usable, 'cycle')} without sound, or"
            " too short, got no class."
        )
    if uncertain:
        head += (
            f"\n\n{_count(uncertain, 'cycle')} *{UNCERTAIN}*:"
            " left to a person, not counted."
        )
    rule = "All cycles count the same, however long or overlapping."
    if summary["abnormal_fraction"] is not None:
        rule = (
            "A cycle counts as not normal if its class is another than"
            " *normal*; all count the same, however long or overlapping."
        )
    if summary["operating_point"] is not None:
        rule += (
            " The class is that at the operating point which was chosen for the"
            " model on held-out patients, not always the most probable one."
        )
    quality = "This model measures no quality."
    if summary["worst_quality"] is not None:
        worst = int(cycles["quality"].argmin()) + 1
        quality = (
            f"Worst quality: **{summary['worst_quality']:.2f}**, of cycle"
            f" {worst} (0 is worst, 1 best)."
        )
    return "\n\n".join([head, rule, quality, source, recording])


def tabulate(cycles: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """The table of the page, of texts.

    The number of the cycle in the picture, start and end in seconds, class,
    probabilities in percent, quality.
    """
    shown = {"cycle": [str(i + 1) for i in range(len(cycles))]}
    for name in ("start", "end"):
        shown[f"{name} (s)"] = [f"{time:.2f}" for time in cycles[name]]
    shown["class"] = list(cycles["prediction"])
    for label in labels:
        shown[f"{label} (%)"] = [
            "-" if pd.isna(share) else f"{100 * share:.0f}"
            for share in cycles[f"p_{label}"]
        ]
    shown["quality"] = [
        "-" if pd.isna(value) else f"{value:.2f}" for value in cycles["quality"]
    ]
    return pd.DataFrame(shown, dtype=str)


def _source(summary: dict) -> str:
    """How the cycles were found, as a sentence."""
    source, confidence = summary["cycle_source"], summary["confidence"]
    if confidence is None:
        return f"Cycles: {Path(source).name}."
    return (
        f"Cycles: {source}, with a confidence of {confidence:.2f} of 1. It says"
        " how clearly cycles are heard, not whether they are right: of the"
        " boundaries found in recordings that experts annotated, about half"
        " were within a quarter of a second of theirs. Look in the picture"
        " whether they are breaths."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
