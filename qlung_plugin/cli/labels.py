"""``qlung labels``: annotations in, a table of one's own data out.

Authors
 * qlung_plugin contributors
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

from qlung_plugin.cli.recordings import check_cycles
from qlung_plugin.dataio.fields import some
from qlung_plugin.utils.text import print_note

HELP = "make a table to train on, adapt to or judge by, of annotations"

DESCRIPTION = """\
Makes a table of one's own data (path, start, end, label, patient) of
recordings and their annotations, such as labels corrected in Audacity or Raven."""

EXAMPLES = """\
The labels are those of an annotation beside each recording, or in --cycles: a
label track of Audacity, a selection table of Raven, ICBHI's classes (.txt),
SPRSound's types (.json), or a .csv with the columns start, end and label. What
`qlung classify` called unusable or uncertain is left out, and counted, as are
recordings without an annotation. A label without text is an error. --rename
gives labels other names, such as those of a model's classes, of which `normal`
is what the others are told from; with none behind the =, it is left out.

Whose recording it is has to be known, as no patient may be trained on and
judged by: --patient is a pattern (a regular expression), of which the first
group, or all of it, is found in the name of each recording, or in its path if
there is a / in the pattern, or a .csv with the columns recording (as in
--cycles) and patient.

examples:
  qlung labels recordings/ --cycles labels/ --patient '^[0-9]+' -o table.csv
  qlung labels recordings/ --cycles labels/ --patient patients.csv -o table.csv
  qlung labels recordings/ --patient '([^/]+)/[^/]+$' -o table.csv
  qlung labels SPRSound/train_wav --cycles SPRSound/train_json \\
      --patient '^([0-9]+)_' -o table.csv \\
      --rename Normal=normal "Fine Crackle=crackle" Wheeze=wheeze Stridor="""

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
        default="auto",
        metavar="FOLDER",
        help="annotations called like their recordings, or a table of several"
        " recordings (default: beside the recordings)",
    )
    parser.add_argument(
        "--patient",
        required=True,
        metavar="PATTERN",
        help="what of a recording's name is its patient, or a .csv",
    )
    parser.add_argument(
        "--rename",
        nargs="+",
        default=[],
        metavar="OLD=NEW",
        help="other names of labels; with OLD= alone, leave them out",
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

    from qlung_plugin.dataio.annotations import candidates, find_labels
    from qlung_plugin.dataio.cycle_sources import clip_label
    from qlung_plugin.dataio.finding import find_recordings
    from qlung_plugin.dataio.label_tracks import check_labelled
    from qlung_plugin.dataio.recordings import Recording
    from qlung_plugin.dataio.shares import share_out
    from qlung_plugin.utils.files import replacing

    output = Path(arguments.output)
    if output.exists():
        raise FileExistsError(f"{output} exists: remove it, or name another")
    found = find_recordings(arguments.paths)
    if arguments.cycles in ("segmentation", "windows"):
        raise ValueError(f"--cycles {arguments.cycles} have no labels")
    check_cycles(arguments.cycles, len(found.recordings))
    shares, notes = share_out(arguments.cycles, found.recordings)
    for sentence in found.unreachable + found.repeated + notes:
        print_note(sentence)
    patient_of = find_patients(arguments.patient, found.recordings)
    names = {**dict.fromkeys(NO_CLASS, ""), **read_names(arguments.rename)}
    seen: set[str] = set()
    rows, bare, empty = [], [], []
    left_out: Counter[str] = Counter()
    for recording, share in zip(found.recordings, shares):
        try:
            labels = find_labels(share, recording)
        except FileNotFoundError as error:  # none in the folder
            if candidates(arguments.cycles, recording):  # why it is none
                print_note(str(error))
            labels = None
        if labels is None:
            bare.append(recording.name)
            continue
        if not labels:
            empty.append(recording.name)
            continue
        check_labelled(labels)
        patient = patient_of(recording)
        sound = Recording(recording, allow_truncated=True)
        for label in labels:
            start, end, text, *_ = clip_label(label, sound)
            seen.add(text)
            name = names.get(text, text)
            if not name:
                left_out[text] += 1
                continue
            rows.append([refer(recording, output), start, end, name, patient])
    strangers = sorted(read_names(arguments.rename).keys() - seen)
    if strangers:
        raise ValueError(
            f"--rename: no label is called {', '.join(strangers)}; there are"
            f" {', '.join(sorted(seen))}"
        )
    for text, count in sorted(left_out.items()):
        print_note(f"{count} labels '{text}' are left out")
    if bare:
        print_note(
            f"{len(bare)} of {len(found.recordings)} recordings have no"
            f" annotation, and are left out: {some(bare)}"
        )
    if empty:
        print_note(
            f"{len(empty)} of {len(found.recordings)} recordings have an"
            f" annotation that holds no label: {some(empty)}"
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


def read_names(texts: Sequence[str]) -> dict[str, str]:
    """New names of labels by the old ones, of ``OLD=NEW`` each."""
    names: dict[str, str] = {}
    for text in texts:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not old or not equals or old in names:
            raise ValueError(
                f"--rename {text}: OLD=NEW is needed, and each OLD once"
            )
        names[old] = new
    return names


def find_patients(
    source: str, recordings: Sequence[Path]
) -> Callable[[Path], str]:
    """What tells the patient of a recording: a table, or a pattern in its name.

    Of a recording of which neither does, it is a ValueError.
    """
    if source.lower().endswith(".csv"):
        patients = read_patients(source, recordings)

        def look_up(recording: Path) -> str:
            if recording not in patients:
                raise ValueError(f"{source} has no patient of {recording}")
            return patients[recording]

        return look_up
    try:
        pattern = re.compile(source)
    except re.error as error:
        raise ValueError(
            f"--patient {source} is no pattern: {error}"
        ) from error

    def find(recording: Path) -> str:
        path = recording.absolute().as_posix()
        match = pattern.search(path if "/" in source else recording.stem)
        patient = match and match[1 if pattern.groups else 0]
        if not patient:
            raise ValueError(f"--patient {source} finds nothing in {recording}")
        return patient

    return find


def read_patients(table: str, recordings: Sequence[Path]) -> dict[Path, str]:
    """Reads a table with the columns recording and patient."""
    import pandas as pd

    from qlung_plugin.dataio.cycle_tables import match_names
    from qlung_plugin.utils.ordinary_files import LARGEST_TABLE, read_ordinary

    text = read_ordinary(table, LARGEST_TABLE)
    try:
        rows = pd.read_csv(StringIO(text), dtype=str, skipinitialspace=True)
    except ValueError as error:
        raise ValueError(f"{table} is not readable as CSV: {error}") from error
    missing = {"recording", "patient"} - {*rows}
    if missing:
        raise ValueError(
            f"{table} lacks the columns {', '.join(sorted(missing))}"
        )
    patients: dict[Path, str] = {}
    names = rows["recording"].dropna().unique()
    meant = match_names(names, recordings, Path(table))
    for number, name, patient in zip(
        rows.index + 2, rows["recording"], rows["patient"]
    ):
        where = f"{table} row {number}"
        if pd.isna(name) or pd.isna(patient):
            raise ValueError(f"{where}: recording or patient is empty")
        if (
            name in meant
            and patients.setdefault(meant[name], patient) != patient
        ):
            raise ValueError(
                f"{where}: {name} is of patient {patient}, and of"
                f" {patients[meant[name]]} before"
            )
    return patients


def refer(recording: Path, table: Path) -> str:
    """The path of a recording in a table: from its folder, if it lies there."""
    path, folder = recording.absolute(), table.absolute().parent
    return str(
        path.relative_to(folder) if path.is_relative_to(folder) else path
    )
