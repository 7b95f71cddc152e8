"""What the demo's page says of a recording: in words, a picture and a table.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.figures.cycles import (
    NARROW,
    WIDE,
    cycles_figure,
    picture,
)
from qlung_plugin.inference.classifier import NORMAL, UNUSABLE

LONGEST = 10  # minutes of a recording


class Analysis(NamedTuple):
    """What the page shows of a recording."""

    summary: str  # in Markdown
    picture: str  # HTML, for wide and for narrow screens
    table: pd.DataFrame  # a row per cycle, numbers as text
    recording: Recording  # to hear the cycles
    times: list  # of (start, end) of each cycle in seconds


def analyse(model, path, cycles="segmentation"):
    """Classifies a recording, for people who look rather than compute.

    Arguments
    ---------
    model : qlung_plugin.inference.classifier.RespiratorySoundClassifier
        The model.
    path : str or Path
        The recording.
    cycles : str or Path
        ``segmentation``, ``windows``, or an annotation; see
        :func:`qlung_plugin.dataio.cycle_sources.find_cycles`.

    Returns
    -------
    Analysis

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If the recording is no audio, empty, damaged, or longer than
        :data:`LONGEST` minutes, or the annotation does not fit.

    Example
    -------
    >>> analyse(None, __file__)
    Traceback (most recent call last):
        ...
    ValueError: ...analysis.py is not readable as audio (Format not recognised.)
    """
    recording = Recording(path)
    if recording.duration > 60 * LONGEST:
        raise ValueError(
            f"{path} is {recording.duration / 60:.1f} minutes long: the page"
            f" takes at most {LONGEST}; `qlung classify` has no limit"
        )
    classification = model.classify_file(path, cycles)
    cycles = classification.cycles
    return Analysis(
        describe(classification),
        draw(recording, cycles, model.labels),
        tabulate(cycles, model.labels),
        recording,
        list(zip(cycles["start"], cycles["end"])),
    )


def draw(recording, cycles, labels):
    """The picture of the page, of which the style shows the one that fits.

    Arguments
    ---------
    recording : qlung_plugin.dataio.recordings.Recording
        The recording.
    cycles : pandas.DataFrame
        Of a ``Classification``.
    labels : list of str
        The classes.

    Returns
    -------
    str
        HTML.
    """
    shapes = {"wide": WIDE, "narrow": NARROW}
    about = "Spectrogram, and below it the cycles of the table"
    return "".join(
        f'<div class="{name}">'
        f"{picture(cycles_figure(recording, cycles, labels, shape), about)}"
        "</div>"
        for name, shape in shapes.items()
    )


def describe(classification):
    """The summary of a recording, with the rules by which it is made.

    Arguments
    ---------
    classification : qlung_plugin.inference.classifier.Classification
        Of the recording.

    Returns
    -------
    str
        Markdown.
    """
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
    abnormal = int((~cycles["prediction"].isin([NORMAL, UNUSABLE])).sum())
    usable = int((cycles["prediction"] != UNUSABLE).sum())
    head = "### No usable cycle"
    if usable:
        head = (
            f"### {abnormal} of {_count(usable, 'cycle')}"
            f" ({100 * summary['abnormal_fraction']:.0f} %) not normal"
        )
    if usable < len(cycles):
        head += (
            f"\n\n{_count(len(cycles) - usable, 'cycle')} without sound, or"
            " too short, got no class."
        )
    rule = (
        "A cycle counts as not normal if the most probable class is another"
        " than *normal*; all count the same, however long or overlapping."
    )
    quality = "This model measures no quality."
    if summary["worst_quality"] is not None:
        worst = int(cycles["quality"].argmin()) + 1
        quality = (
            f"Worst quality: **{summary['worst_quality']:.2f}**, of cycle"
            f" {worst} (0 is worst, 1 best)."
        )
    return "\n\n".join([head, rule, quality, source, recording])


def tabulate(cycles, labels):
    """The table of the page.

    Arguments
    ---------
    cycles : pandas.DataFrame
        Of a ``Classification``.
    labels : list of str
        The classes.

    Returns
    -------
    pandas.DataFrame
        Texts: the number of the cycle in the picture, start and end in
        seconds, class, probabilities in percent, quality.
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


def _source(summary):
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


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"
