"""Which file annotates a recording: by its name, and then by its content.

What lies beside a recording may be anything, such as what another program, or
this one, said of it.

Authors
 * qlung_plugin contributors
"""

import glob
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from qlung_plugin.dataio import icbhi_tables, label_tracks, sprsound
from qlung_plugin.dataio.cycle_tables import (
    COLUMNS,
    CycleRows,
    columns_of,
    is_output,
    read_raven_table,
    read_table,
)
from qlung_plugin.dataio.fields import NUMBER, some
from qlung_plugin.dataio.label_tracks import Label
from qlung_plugin.utils.ordinary_files import parse_json, read_ordinary

ANNOTATIONS = (".txt", ".json", ".csv")
SPRSOUND = re.compile('"(event|record|recording)_annotation"')
# Of Raven's tables, a recording may have several.
RAVEN_TABLES = tuple(f".Table.{n}.selections.txt" for n in range(1, 10))
TABLE = re.compile(r"\bstart\b.*\bend\b", re.IGNORECASE)

TIME = re.compile("-?[0-9]+([.,][0-9]*)?")
NO_TRACK = (
    "its first line is neither start, end, and 0 or 1 twice (ICBHI), nor start,"
    " end and label, separated by tabs (Audacity)"
)

logger = logging.getLogger(__name__)


def annotation_beside(recording: Path) -> Path | None:
    """The annotation beside a recording, if there is one.

    That is a file of its name that is an annotation by its content: the first
    of :data:`ANNOTATIONS`. If there are more, a warning names them, and one
    that nearly is.
    """
    annotations = []
    for path in _candidates_beside(recording):
        known, lack = recognise(path)
        if known:
            annotations.append(path)
        elif lack:
            logger.warning(
                "%s is not read as the annotation of %s: %s",
                *(path, recording.name, lack),
            )
    # Where letter case does not count, one file has two names.
    others = [
        p for p in annotations[1:] if not os.path.samefile(p, annotations[0])
    ]
    if others:
        logger.warning(
            "%s has %d annotations: %s is read, and not %s; name the one that"
            " is meant, or remove the others",
            *(recording.name, 1 + len(others), annotations[0]),
            some([str(path) for path in others]),
        )
    return annotations[0] if annotations else None


def annotation_in(folder: Path, recording: Path) -> Path:
    """The annotation of a recording in a folder, or at any depth in it.

    It lies in folders like the recording's own, as far as there are such. That
    there is none, or several in other folders, is an error.
    """
    likely = likely_annotation(folder, recording)
    if likely is not None:
        return likely
    files, others = [], []
    for path in _candidates_in(folder, recording):
        known, lack = recognise(path)
        if known:
            files.append(path)
        else:
            others.append(f"{path} ({lack or 'it is something else'})")
    if not files:
        message = f"{folder} has no annotation of {recording}:" + (
            f" {recording.stem}{' or '.join(ANNOTATIONS)}"
        )
        if others:
            message += f"; not read as such: {some(others)}"
        raise FileNotFoundError(message)
    if len(files) > 1:
        raise ValueError(
            f"{folder} has {len(files)} annotations of {recording.name}:"
            f" {some([str(file) for file in files])}; name one"
        )
    return files[0]


def likely_annotation(folder: Path, recording: Path) -> Path | None:
    """The annotation in folders like the recording's own, or directly in one."""
    for place in _likely_places(folder, recording):
        beside = annotation_beside(place)
        if beside is not None:
            return beside
    return None


def candidates(source: str, recording: Path) -> list[Path]:
    """The files that may annotate a recording, so that its cycles depend on them.

    The source is that of :func:`qlung_plugin.dataio.cycle_sources.find_cycles`.
    """
    if source in ("segmentation", "windows"):
        return []
    if source == "auto":
        return _candidates_beside(recording)
    if not os.path.isdir(source):
        return [Path(source)]
    files = []
    for place in _likely_places(Path(source), recording):
        files += _candidates_beside(place)
        if any(recognise(path)[0] for path in files):
            return files
    return files + _candidates_in(Path(source), recording)


def _likely_places(folder: Path, recording: Path) -> Iterator[Path]:
    """What the recording would be in the folder, with its own folders or fewer."""
    folders = recording.absolute().parent.parts[1:]
    for first in range(len(folders) + 1):
        yield folder.joinpath(*folders[first:], recording.name)


def names_beside(recording: Path) -> list[Path]:
    """What an annotation beside a recording may be called; there or not."""
    paths = [
        recording.with_suffix(variant)
        for suffix in ANNOTATIONS
        for variant in (suffix, suffix.upper())
    ]
    return paths + [recording.with_suffix(suffix) for suffix in RAVEN_TABLES]


def _candidates_beside(recording: Path) -> list[Path]:
    return [p for p in names_beside(recording) if os.path.lexists(p)]


def _candidates_in(folder: Path, recording: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob(f"{glob.escape(recording.stem)}.*"))
        if path.suffix.lower() in ANNOTATIONS
        and (
            path.stem == recording.stem
            or path.name.removeprefix(recording.stem) in RAVEN_TABLES
        )
    ]


def recognise(path: Path) -> tuple[bool, str | None]:
    """Whether a file with one of the :data:`ANNOTATIONS` is one by its content.

    If not, but nearly, also why. It need not be without fault: those are
    reported when it is read.
    """
    try:
        text = read_ordinary(path, errors="replace")
    except (OSError, ValueError) as error:
        return False, str(error)
    like = {".txt": _like_text, ".json": _like_sprsound, ".csv": _like_table}
    return like[path.suffix.lower()](text)


def _like_text(text: str) -> tuple[bool, str | None]:
    """ICBHI's lines, a label track of Audacity, or a table of Raven."""
    known, lack = _like_icbhi(text)
    if known or _is_track(text):
        return True, None
    fields = next((x.split() for x in text.splitlines() if x.strip()), [])
    times = [bool(TIME.fullmatch(field)) for field in fields[:3]]
    if times == [True, True, False]:
        return False, NO_TRACK
    return False, lack


def _is_track(text: str) -> bool:
    return label_tracks.is_raven(text) or label_tracks.is_audacity(text)


def _like_icbhi(text: str) -> tuple[bool, str | None]:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    fits = [
        len(fields) == 4
        and all(map(NUMBER.fullmatch, fields[:2]))
        and set(fields[2:]) <= {"0", "1"}
        for fields in lines
    ]
    if any(fits[:1]):
        return True, None
    lack = "its first line is not start, end, and 0 or 1 twice"
    return False, lack if any(fits) else None


def _like_sprsound(text: str) -> tuple[bool, str | None]:
    if not SPRSOUND.search(text):
        return False, None
    try:
        content = parse_json(text, "it")
    except ValueError as error:
        return False, str(error)
    if isinstance(content, dict) and isinstance(
        content.get("event_annotation"), list
    ):
        return True, None
    return False, "it holds no list 'event_annotation'"


def _like_table(text: str) -> tuple[bool, str | None]:
    columns = columns_of(text)
    if set(COLUMNS) <= set(columns):
        return not is_output(columns), None
    near = TABLE.search(text.partition("\n")[0])
    return False, "it lacks the columns start and end" if near else None


def read_times(path: Path, recording: Path) -> list[tuple[float, float]]:
    """Reads the cycles of a recording: start and end, in seconds."""
    return [(label.start, label.end) for label in read_labels(path, recording)]


def find_labels(source: CycleRows | str, recording: Path) -> list[Label] | None:
    """What a recording's annotation says of its stretches; None without one.

    The source is that of :func:`qlung_plugin.dataio.cycle_sources.find_cycles`.
    If it is a folder without one, it is a FileNotFoundError.
    """
    if isinstance(source, CycleRows):
        return None if source.rows is None else source.labels()
    if source in ("segmentation", "windows"):
        return None
    path: Path | None = Path(source)
    if source == "auto":
        path = annotation_beside(recording)
    elif os.path.isdir(source):
        path = annotation_in(Path(source), recording)
    return None if path is None else read_labels(path, recording)


def read_labels(path: Path, recording: Path) -> list[Label]:
    """Reads what an annotation says of the stretches of a recording.

    The text is ICBHI's class, SPRSound's type, that of a label track, or the
    column label of a table, if it has one. If a table is of several recordings,
    the rows of others are left out.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        _, events = sprsound.read_annotation(path)
        return [
            Label(event["start"], event["end"], event["type"], event["where"])
            for event in events
        ]
    table = read_table(path) if suffix == ".csv" else read_raven_table(path)
    if table is not None:
        rows, _ = table.assign([recording])
        return rows[recording].labels()
    if suffix != ".txt":
        raise ValueError(
            f"{path} is no annotation: expected is {', '.join(ANNOTATIONS)}"
        )
    text = read_ordinary(path)
    if _like_icbhi(text)[0] or not _is_track(text):
        if _like_text(text)[1] == NO_TRACK:
            raise ValueError(f"{path}: {NO_TRACK}")
        cycles = icbhi_tables.read_annotation(path)
        return [
            Label(start, end, label, where)
            for where, start, end, label in cycles
        ]
    if label_tracks.is_raven(text):
        return label_tracks.parse_raven(text, path)
    return label_tracks.parse_audacity(text, path)
