"""``qlung labels``: annotations in, a table of one's own data out.

Authors
 * qlung_plugin contributors
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from qlung_plugin.cli.recordings import check_cycles
from qlung_plugin.utils.text import print_note

HELP = "make a table to train on, adapt to or judge by, of annotations"

DESCRIPTION = """\
Makes a table of one's own data (path, start, end, label, patient) of
recordings and their annotations, such as labels corrected in Audacity or Raven."""

EXAMPLES = """\
The labels are those of an annotation beside each recording, or in --cycles: a
label track of Audacity, a selection table of Raven, ICBHI's classes (.txt), or
SPRSound's types (.json). What `qlung classify` called unusable or uncertain is
left out, and counted, as are recordings without an annotation.

Whose recording it is has to be known, as no patient may be trained on and
judged by: --patient is a pattern (a regular expression), of which the first
group, or all of it, is found in the name of each recording, or a .csv with the
columns recording (a name, with or without suffix) and patient.

examples:
  qlung labels recordings/ --cycles labels/ --patient '^[0-9]+' -o table.csv
  qlung labels recordings/ --cycles labels/ --patient patients.csv -o table.csv
  qlung labels SPRSound/train_wav --cycles SPRSound/train_json \\
      --patient '^([0-9]+)_' -o table.csv"""

NO_CLASS = ("unusable", "uncertain")
COLUMNS = ["path", "start", "end", "label", "patient"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a recording, or a folder of recordings",
    )
    parser.add_argument(
        "--cycles",
        metavar="FOLDER",
        help="annotations called like their recordings, or a selection table of"
        " Raven (default: beside the recordings)",
    )
    parser.add_argument(
        "--patient",
        required=True,
        metavar="PATTERN",
        help="what of a recording's name is its patient, or a .csv",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="the .csv to write",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the table; what is wrong is an OSError or a ValueError."""
    import pandas as pd

    from qlung_plugin.dataio.finding import find_recordings
    from qlung_plugin.utils.files import replacing

    output = Path(arguments.output)
    if output.exists():
        raise FileExistsError(f"{output} exists: remove it, or name another")
    found = find_recordings(arguments.paths)
    for sentence in found.unreachable + found.repeated:
        print_note(sentence)
    if arguments.cycles:
        check_cycles(arguments.cycles, len(found.recordings))
    patient_of = read_patients(arguments.patient)
    rows, bare = [], []
    left_out: Counter[str] = Counter()
    for recording in found.recordings:
        labels = labels_of(recording, arguments.cycles)
        if labels is None:
            bare.append(recording.name)
            continue
        patient = patient_of(recording)
        for start, end, text, *_ in labels:
            if text in NO_CLASS:
                left_out[text] += 1
                continue
            rows.append([refer(recording, output), start, end, text, patient])
    for text, count in sorted(left_out.items()):
        print_note(f"{count} labels '{text}' are left out")
    if bare:
        print_note(
            f"{len(bare)} of {len(found.recordings)} recordings have no"
            f" annotation, and are left out: {', '.join(bare[:3])}"
        )
    if not rows:
        raise ValueError("no recording has a label: nothing is written")
    table = pd.DataFrame(rows, columns=COLUMNS)
    with replacing(output) as place:
        table.to_csv(place, index=False, float_format="%.6f")
    counts = Counter(table["label"]).most_common()
    print_note(
        f"{output}: {len(table)} rows of {table['path'].nunique()} recordings and"
        f" {table['patient'].nunique()} patients:"
        f" {', '.join(f'{label} {count}' for label, count in counts)}"
    )
    return int(bool(found.unreachable))


def labels_of(recording: Path, cycles: str | None) -> list | None:
    """The labels of a recording, with text; None if there is no annotation."""
    from qlung_plugin.dataio.annotations import (
        annotation_beside,
        annotation_in,
        read_labels,
    )
    from qlung_plugin.dataio.label_tracks import check_labelled

    if cycles is None or not os.path.isdir(cycles):
        path = annotation_beside(recording) if cycles is None else Path(cycles)
    else:
        try:
            path = annotation_in(Path(cycles), recording)
        except FileNotFoundError:
            path = None
    if path is None:
        return None
    labels = read_labels(path, recording)
    check_labelled(labels, path)
    return labels


def read_patients(source: str) -> Callable[[Path], str]:
    """What tells the patient of a recording: a table, or a pattern in its name.

    Of a recording of which neither does, it is a ValueError.
    """
    if source.lower().endswith(".csv"):
        import pandas as pd

        table = pd.read_csv(source, dtype=str)
        missing = {"recording", "patient"} - {*table}
        if missing:
            raise ValueError(
                f"{source} lacks the columns {', '.join(sorted(missing))}"
            )
        empty = table.index[table["patient"].isna() | table["recording"].isna()]
        if len(empty):
            raise ValueError(
                f"{source} row {empty[0] + 2}: recording or patient is empty"
            )
        named = dict(zip(table["recording"], table["patient"]))
        if len(named) < len(table.drop_duplicates(["recording", "patient"])):
            raise ValueError(f"{source}: a recording has several patients")

        def look_up(recording: Path) -> str:
            for name in (str(recording), recording.name, recording.stem):
                if name in named:
                    return named[name]
            raise ValueError(f"{source} has no patient of {recording}")

        return look_up
    try:
        pattern = re.compile(source)
    except re.error as error:
        raise ValueError(
            f"--patient {source} is no pattern: {error}"
        ) from error

    def find(recording: Path) -> str:
        match = pattern.search(recording.stem)
        patient = match and match[1 if pattern.groups else 0]
        if not patient:
            raise ValueError(
                f"--patient {source} finds nothing in {recording.name}"
            )
        return patient

    return find


def refer(recording: Path, table: Path) -> str:
    """The path of a recording in a table: from its folder, if it lies there."""
    path, folder = recording.absolute(), table.absolute().parent
    return str(
        path.relative_to(folder) if path.is_relative_to(folder) else path
    )
