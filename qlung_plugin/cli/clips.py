"""``qlung clips``: the cycles that are worth listening to, as short files.

Authors
 * qlung_plugin contributors
"""

import argparse
import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qlung_plugin.cli.classify import classify
from qlung_plugin.cli.labels import find_patients, refer
from qlung_plugin.cli.models import add_model, load
from qlung_plugin.cli.recordings import (
    CYCLES,
    above_zero,
    add_cycles,
    add_recordings,
    for_each,
)
from qlung_plugin.dataio.fields import some
from qlung_plugin.pretrained import describe_shipped, is_shipped
from qlung_plugin.utils.text import print_note

if TYPE_CHECKING:
    import pandas as pd

    from qlung_plugin.dataio.cycle_tables import CycleRows
    from qlung_plugin.inference.classification import Classification

HELP = "cut out the cycles that are most worth listening to"

DESCRIPTION = """\
Writes the most uncertain, most confidently wrong, or worst-sounding cycles of
recordings as short files, with a table to label them in."""

EXAMPLES = f"""\
Cycles are chosen by:
  uncertain  the entropy of the model's probabilities, the highest first
  wrong      the probability of the class that the model gives, where the
             annotation has another one; types of SPRSound count as ICBHI's
             classes, labels that are none of the model's not at all
  quality    the quality of the cycle, the lowest first

The folder holds clip_001.wav, ... in that order, each with 0.25 s before and
after its cycle, as far as the recording has them, and clips.csv: clip; path,
start and end of the cycle in its recording; label (what the annotation has,
else empty), patient, prediction, probabilities and quality. With label and
patient filled in, it is a table of one's own data, to train on or adapt to;
--patient, as of `qlung labels`, fills in the latter.

{CYCLES}

examples:
  qlung clips recordings/ -n 20 -o listen/
  qlung clips recordings/ --by wrong --cycles labels/ -n 50 -o wrong/
  qlung clips recordings/ --by quality --model exported/ -o worst/"""

NONE = {
    "uncertain": "no cycle has a class: there is nothing to listen to",
    "wrong": "no cycle is called another class than its annotation has, if any",
    "quality": "no cycle has a quality: name a --model that measures one",
}
CONTEXT = 0.25  # s before and after a cycle
TABLE = "clips.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_recordings(parser)
    add_model(parser)
    parser.add_argument(
        "--by",
        default="uncertain",
        choices=tuple(RANKINGS),
        help="by what cycles are chosen, see below (default: uncertain)",
    )
    parser.add_argument(
        "-n",
        "--count",
        type=above_zero,
        default=20,
        metavar="N",
        help="how many cycles (default: 20)",
    )
    add_cycles(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="the folder to write, which must be empty or not be there",
    )
    parser.add_argument(
        "--patient",
        metavar="PATTERN",
        help="what of a recording's name is its patient, or a .csv, see"
        " `qlung labels` (default: to be filled in)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the clips; see :func:`for_each`."""
    import pandas as pd

    from qlung_plugin.dataio.finding import find_recordings
    from qlung_plugin.dataio.sprsound import TYPES
    from qlung_plugin.utils.files import replacing

    folder = Path(arguments.output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: name another --output")
    patients: dict[Path, str] = {}
    if arguments.patient:
        recordings = find_recordings(arguments.paths).recordings
        patient_of = find_patients(arguments.patient, recordings)
        patients = {path: patient_of(path) for path in recordings}
    if is_shipped(arguments.model):
        print_note(describe_shipped(arguments.model))
    chosen: list[tuple[float, int, dict]] = []
    seen = 0
    strange: Counter[str] = Counter()  # labels that are no class of the model

    def keep(path: Path, result: "tuple[Classification, list[str]]") -> None:
        nonlocal seen
        (cycles, _), truth = result
        classes = [
            text if f"p_{text}" in cycles else TYPES.get(text, text)
            for text in truth
        ]
        strange.update(x for x in classes if x and f"p_{x}" not in cycles)
        ranks = RANKINGS[arguments.by](cycles, classes)
        for number, rank in enumerate(ranks):
            if pd.isna(rank):
                continue
            seen += 1
            row = {**cycles.iloc[number].to_dict(), "label": truth[number]}
            # Of equals, the first stays.
            entry = (float(rank), -seen, {"recording": path, **row})
            heapq.heappush(chosen, entry)
            if len(chosen) > arguments.count:
                heapq.heappop(chosen)

    function = partial(
        classify_labelled,
        channel=arguments.channel,
        allow_truncated=arguments.allow_truncated,
    )
    code = for_each(arguments, function, partial(load, arguments), keep)
    if strange and arguments.by == "wrong":
        print_note(
            f"{strange.total()} labels are no class of the model, and cannot be"
            f" wrong: {some([text for text, _ in strange.most_common()])}"
        )
    if not chosen:
        raise ValueError(NONE[arguments.by])
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (_, _, row) in enumerate(sorted(chosen, reverse=True), 1):
        name = f"clip_{number:03d}.wav"
        recording = row.pop("recording")
        cut(recording, row["start"], row["end"], folder / name, arguments)
        # A row is of the recording, by whose level and spectrum a model may
        # normalise; the clip is to be heard alone.
        rows.append(
            {
                "clip": name,
                "path": refer(recording, folder / TABLE),
                "start": row.pop("start"),
                "end": row.pop("end"),
                "label": row.pop("label"),
                "patient": patients.get(recording, ""),
                **row,
            }
        )
    with replacing(folder / TABLE) as place:
        pd.DataFrame(rows).to_csv(place, index=False, float_format="%.6f")
    print_note(f"{folder}: {len(rows)} of {seen} cycles, and {TABLE}")
    return code


def classify_labelled(
    model: Any, path: Path, cycles: "CycleRows | str", **options: Any
) -> "tuple[Classification, list[str]]":
    """A recording's cycles, and what their annotation calls each, or nothing."""
    from qlung_plugin.dataio.annotations import read_labels
    from qlung_plugin.dataio.cycle_tables import CycleRows

    result = classify(model, path, cycles=cycles, **options)
    source = Path(result.summary["cycle_source"])
    labels = []
    if isinstance(cycles, CycleRows):
        labels = cycles.labels()
    elif source.is_file():
        labels = read_labels(source, path)
    texts = {label[:2]: label.text for label in labels}
    # An end past that of the recording was clipped to it.
    by_start = {label.start: label.text for label in labels}
    times = zip(result.cycles["start"], result.cycles["end"])
    return result, [texts.get(t, by_start.get(t[0], "")) for t in times]


def cut(
    path: Path,
    start: float,
    end: float,
    file: Path,
    arguments: argparse.Namespace,
) -> None:
    """Writes a cycle of a recording, and what is around it, as a file."""
    import soundfile

    from qlung_plugin.dataio.recordings import Recording

    recording = Recording(path, arguments.channel, arguments.allow_truncated)
    waveform = recording.read(
        max(start - CONTEXT, 0.0), min(end + CONTEXT, recording.duration)
    )
    soundfile.write(
        file, waveform.numpy(), recording.sample_rate, subtype="FLOAT"
    )


def by_uncertainty(cycles: "pd.DataFrame", truth: list[str]) -> "pd.Series":
    """Entropy of the probabilities; NaN of an unusable cycle."""
    import numpy as np

    shares = cycles.filter(regex="^p_")
    logs = np.log(shares.where(shares > 0, 1.0))
    return -(shares * logs).sum(axis=1, skipna=False)


def by_mistake(cycles: "pd.DataFrame", truth: list[str]) -> list[float]:
    """Probability of the class given, where the annotation has another one."""
    nan = float("nan")
    return [
        row.get(f"p_{row['prediction']}", nan)
        if f"p_{label}" in row and label != row["prediction"]
        else nan
        for (_, row), label in zip(cycles.iterrows(), truth)
    ]


def by_quality(cycles: "pd.DataFrame", truth: list[str]) -> "pd.Series":
    """The lowest quality is the highest rank."""
    return -cycles["quality"]


RANKINGS: "dict[str, Callable[[pd.DataFrame, list[str]], Iterable[float]]]" = {
    "uncertain": by_uncertainty,
    "wrong": by_mistake,
    "quality": by_quality,
}
