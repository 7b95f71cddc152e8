"""What a model says of a recording: its cycles, and a summary of them.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from qlung_plugin.dataio.labels import NORMAL
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.scores.calibration import certain
from qlung_plugin.scores.operating_point import decide, shares_at

UNUSABLE = "unusable"  # the class of a cycle in which there is nothing to hear
UNCERTAIN = "uncertain"  # that of one which is left to a person
UNCALLED = (UNUSABLE, UNCERTAIN)


class Classification(NamedTuple):
    """What a model says of a recording.

    Arguments
    ---------
    cycles : pandas.DataFrame
        A row per cycle: ``start`` and ``end`` in seconds, ``prediction``, at
        the model's operating point if it has one, ``p_<label>`` per class,
        ``quality`` in [0, 1] (1 is best), and what it was computed from, under
        the names of the measure, if it has any. A measurement is NaN in silence;
        the quality, too, if the model's is no measure of waveforms. A cycle in
        which less sound is than the shortest
        one takes gets no class: its prediction is :data:`UNUSABLE`, and its
        probabilities are NaN. If the model was calibrated to leave cycles to a
        person, these are :data:`UNCERTAIN`, with their probabilities.
    summary : dict
        ``recording``, the path as it was given; ``duration`` in seconds;
        ``truncated``, whether its file holds less than its header says;
        ``sample_rate`` in Hz; ``channels``; ``channel``, the only one that was
        read, from 1, else None; ``cycle_source`` in words; ``confidence`` of a
        segmentation in [0, 1], else None; ``cycle_count``; ``unusable_count``,
        how many of these have no class; ``uncertain_count``, how many are left
        to a person; ``abnormal_fraction``, the share of the others whose
        prediction is another class than normal, each counting the
        same however long or overlapping; ``worst_quality``, the lowest quality
        of a cycle; these two are None if there is no such cycle, no class
        ``normal``, or no quality.
        ``operating_point``, what was added to the logarithms of the
        probabilities for the prediction, by label; None if the most probable
        class it is; ``operating_point_rule``, what that was chosen for, in
        words, or None.
    """

    cycles: pd.DataFrame
    summary: dict[str, Any]


def call_cycles(
    shares: np.ndarray,
    labels: Sequence[str],
    point: Mapping[str, float] | None = None,
    abstention: Mapping[str, float] | None = None,
) -> list[str]:
    """The classes ``[cycle]`` of probabilities ``[cycle, class]``.

    At the operating point, if there is one; if the model abstains, a cycle of
    which not exactly one class is probable enough is uncertain.

    Example
    -------
    >>> shares = np.array([[0.6, 0.4], [0.1, 0.9]])
    >>> call_cycles(
    ...     shares, ["normal", "abnormal"], {"normal": -1, "abnormal": 0}
    ... )
    ['abnormal', 'abnormal']
    """
    offsets = None if point is None else list(point.values())
    called = [labels[code] for code in decide(shares, offsets)]
    if abstention is None:
        return called
    sure = certain(shares_at(shares, offsets), abstention["threshold"])
    return [c if s else UNCERTAIN for c, s in zip(called, sure)]


def average_cycles(
    table: pd.DataFrame,
    duration: float,
    labels: Sequence[str],
    call: Callable[[np.ndarray], list[str]],
) -> pd.DataFrame:
    """The one row of a recording: means over its cycles, and the class of these.

    What ``call`` gives of the mean probabilities ``[1, class]``; unusable, if
    all cycles are.
    """
    row = table.mean(numeric_only=True).to_frame().T
    row["start"], row["end"] = 0.0, duration
    shares = row[[f"p_{label}" for label in labels]].to_numpy()
    row["prediction"] = UNUSABLE
    if not pd.isna(shares).any():
        row["prediction"] = call(shares)[0]
    return row[table.columns]


def describe_recording(
    recording: Recording, path: Path | str, channel: int | None
) -> dict[str, Any]:
    """What a summary tells of the recording alone."""
    return {
        "recording": str(path),
        "duration": recording.duration,
        "truncated": recording.truncated,
        "sample_rate": recording.sample_rate,
        "channels": recording.channels,
        "channel": channel,
    }


def summarise_cycles(
    table: pd.DataFrame, labels: Sequence[str]
) -> dict[str, Any]:
    """What a summary tells of the cycles; see :class:`Classification`."""
    predictions = table["prediction"].tolist()
    called = [label for label in predictions if label not in UNCALLED]
    abnormal = sum(label != NORMAL for label in called)
    worst = table["quality"].min()
    known = len(called) and NORMAL in labels
    return {
        "cycle_count": len(table),
        "unusable_count": predictions.count(UNUSABLE),
        "uncertain_count": predictions.count(UNCERTAIN),
        "abnormal_fraction": abnormal / len(called) if known else None,
        "worst_quality": None if pd.isna(worst) else float(worst),
    }
