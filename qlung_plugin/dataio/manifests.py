"""From a database's recordings to JSON manifests: what preparations share.

A preparation turns annotations into cycles: a dict per annotated stretch of a
recording, with ``id``, ``recording``, ``patient``, ``label``, ``wav`` (the
path), ``start`` and ``end`` (seconds), ``where`` (the place of the annotation,
for messages), ``side`` (train or test) and further facts. What is odd but
usable becomes a sentence with a count in a list of warnings.

Authors
 * qlung_plugin contributors
"""

import logging
import math
import os
from pathlib import Path
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.folders import report_problems
from qlung_plugin.dataio.headers import TOLERANCE, read_extent
from qlung_plugin.utils.files import write_json
from qlung_plugin.utils.ordinary_files import (
    LARGEST_TABLE,
    ordinary_size,
    read_json,
)
from qlung_plugin.utils.text import printable

# Python's own: a preparation runs in one process, and what reads annotations
# without SpeechBrain starts in a tenth of the time.
logger = logging.getLogger(__name__)

BLOCK = 2**16  # samples that are looked at together

SEARCH_DEPTH = 8  # folders below the data folder, which may hold link loops


def check_folders(data_folder, output_folder):
    """The two folders as absolute paths; data are never written to.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Where the database is.
    output_folder : str or pathlib.Path
        Where the manifests go; within the data folder it is a ValueError.

    Returns
    -------
    data_folder : pathlib.Path
        Links in it are kept, since manifests are relative to it.
    output_folder : pathlib.Path
        Links in it are resolved.
    """
    check_outside(data_folder, {"output_folder": output_folder})
    return Path(os.path.abspath(data_folder)), Path(output_folder).resolve()


def check_outside(data_folder, places):
    """Refuses to write within the data folder.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Where the database is.
    places : dict
        Files and folders that are going to be written, by their option.

    Example
    -------
    >>> check_outside("/data/ICBHI", {"cache_folder": "/data/ICBHI/cache"})
    Traceback (most recent call last):
    ValueError: cache_folder /data/ICBHI/cache lies in the data folder \
/data/ICBHI, which is never written to: choose another one
    """
    for option, place in places.items():
        if Path(place).resolve().is_relative_to(Path(data_folder).resolve()):
            raise ValueError(
                f"{option} {place} lies in the data folder {data_folder},"
                " which is never written to: choose another one"
            )


def check_data_folder(data_folder):
    """Refuses a data folder that holds no recording, before what takes time.

    Arguments
    ---------
    data_folder : str or pathlib.Path
        Where the database is.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no ``.wav`` in it.

    Example
    -------
    >>> check_data_folder("/nowhere")
    Traceback (most recent call last):
    FileNotFoundError: data_folder /nowhere does not exist
    """
    if not Path(data_folder).is_dir():
        state = (
            "is no folder" if Path(data_folder).exists() else "does not exist"
        )
        raise FileNotFoundError(f"data_folder {data_folder} {state}")
    top = len(Path(data_folder).parts)
    for folder, subfolders, names in os.walk(data_folder, followlinks=True):
        if any(name.lower().endswith(".wav") for name in names):
            return
        if len(Path(folder).parts) - top == SEARCH_DEPTH:
            subfolders.clear()
    raise FileNotFoundError(f"data_folder {data_folder} holds no recording")


class Header(NamedTuple):
    """What a preparation knows of a recording's audio."""

    sample_rate: int  # in Hz
    frames: int  # number of samples that there are
    silent: bool = False  # whether all of them are alike
    promised: float | None = None  # number of samples, if there are fewer


def read_headers(wavs, strict, warnings):
    """Looks into mono recordings, no further than to a sound.

    Arguments
    ---------
    wavs : iterable
        Paths. A file that is no audio, not mono or empty is a ValueError.
    strict : bool
        Whether a recording that is truncated, or has no sound, is an error.
    warnings : list
        Gains how many are, or have none.

    Returns
    -------
    headers : dict
        Header by path.
    """
    wavs = sorted(set(wavs))
    progress = tqdm(wavs, desc="Reading audio headers", disable=None)
    headers = {wav: _read_header(wav) for wav in progress}
    truncated = [
        f"{wav} ({header.frames / header.sample_rate:.4g} of"
        f" {header.promised / header.sample_rate:.4g} s)"
        for wav, header in headers.items()
        if header.promised is not None
    ]
    silent = [str(wav) for wav, header in headers.items() if header.silent]
    problems = {
        "recordings truncated, shorter than their header says": truncated,
        "recordings without sound, all samples being alike": silent,
    }
    report_problems(problems, "audio", strict, warnings)
    return headers


def _read_header(wav):
    ordinary_size(wav, math.inf)
    try:
        with soundfile.SoundFile(wav) as file:
            if file.channels != 1:
                raise ValueError(
                    f"{wav}: {file.channels} channels, mix down to mono"
                )
            if file.frames == 0:
                raise ValueError(f"{wav}: holds no samples")
            first = file.read(1)
            silent = all((block == first).all() for block in file.blocks(BLOCK))
            promised = read_extent(wav).frames(file.frames)
            if promised - file.frames <= TOLERANCE * file.samplerate:
                promised = None
            return Header(file.samplerate, file.frames, silent, promised)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{wav}: not readable as audio ({error})") from error


def locate_cycles(cycles, headers, strict, warnings, noun="cycles"):
    """The cycles with their times in samples, clipped to their recording.

    Arguments
    ---------
    cycles : list
        Cycles; those whose ``wav`` is None are left out.
    headers : dict
        From `read_headers`.
    strict : bool
        Whether a cycle without sound or that is annotated twice is an error.
    warnings : list
        Gains how many cycles were clipped, and how many left out because
        nothing of them lies in the recording, it has no sound, or the stretch
        is annotated twice: one of them stays, none if their labels differ.
    noun : str
        What the database calls its cycles.

    Returns
    -------
    located : list
        Cycles with ``start``, ``stop`` (samples) and ``sample_rate`` (Hz).

    Example
    -------
    >>> warnings = []
    >>> cycle = {"wav": "a.wav", "start": 0.5, "end": 2.1, "where": "a.txt:1"}
    >>> headers = {"a.wav": Header(4000, 8000)}
    >>> located = locate_cycles([cycle], headers, False, warnings)
    >>> located[0]["stop"]
    8000
    >>> warnings
    ['1 cycles clipped that end past the end of their recording, by up to \
100.0 ms (a.txt:1)']
    """
    located, excess = {}, []
    unusable, silent, repeated, contrary = [], [], [], set()
    for cycle in cycles:
        if cycle["wav"] is None:
            continue
        header, where = headers[cycle["wav"]], cycle["where"]
        rate, length = header.sample_rate, header.frames / header.sample_rate
        start = round(min(cycle["start"], length) * rate)
        stop = round(min(cycle["end"], length) * rate)
        place = cycle["wav"], start, stop
        if stop <= start:
            unusable.append(where)
        elif header.silent:
            silent.append(where)
        elif place in located:
            repeated.append(where)
            if located[place]["label"] != cycle["label"]:
                contrary.add(place)
        else:
            samples = {"start": start, "stop": stop, "sample_rate": rate}
            located[place] = {**cycle, **samples}
            if (cycle["end"] - length) * rate > 0.5:
                excess.append((1000 * (cycle["end"] - length), where))
    if excess:
        most, where = max(excess)
        warnings.append(
            f"{len(excess)} {noun} clipped that end past the end of their "
            f"recording, by up to {most:.1f} ms ({where})"
        )
    if unusable:
        warnings.append(
            f"{len(unusable)} {noun} left out that have no length or start "
            f"past the end of their recording: {some(unusable)}"
        )
    contradicted = [located.pop(place)["where"] for place in sorted(contrary)]
    problems = {
        "left out, their recordings being without sound": silent,
        "left out, being a stretch that is annotated already": repeated,
        "left out, whose stretch has another label later": contradicted,
    }
    problems = {f"{noun} {what}": places for what, places in problems.items()}
    report_problems(problems, "annotations", strict, warnings)
    return list(located.values())


def manifest_entry(cycle, data_folder, facts):
    """The manifest's entry of a cycle.

    Arguments
    ---------
    cycle : dict
        From `locate_cycles`.
    data_folder : pathlib.Path
        What stands for ``{data_root}`` in the entry.
    facts : sequence of str
        Which keys of the cycle to tell as they are.

    Returns
    -------
    entry : dict
        ``wav`` (``file``, and ``start``, ``stop`` in samples),
        ``sample_rate`` (Hz), ``duration`` (seconds) and the facts.
    """
    path = cycle["wav"].relative_to(data_folder).as_posix()
    if "{" in path or "}" in path:
        # SpeechBrain fills in {data_root} by str.format_map.
        raise ValueError(f"{cycle['wav']}: rename it to a path without {{}}")
    start, stop, rate = cycle["start"], cycle["stop"], cycle["sample_rate"]
    return {
        "wav": {"file": f"{{data_root}}/{path}", "start": start, "stop": stop},
        "sample_rate": rate,
        "duration": (stop - start) / rate,
        **{fact: cycle[fact] for fact in facts},
    }


def write_manifests(output_folder, manifests, summary_name, summary):
    """Writes manifests and the summary of a preparation, and logs the latter.

    Arguments
    ---------
    output_folder : pathlib.Path
        Where to write; each file is replaced at once.
    manifests : dict
        Entries by id, by file name.
    summary_name : str
        File name of the summary.
    summary : dict
        As for `log_summary`.
    """
    # The summary comes last: it must not describe manifests yet to be written.
    for name, content in {**manifests, summary_name: summary}.items():
        write_json(content, output_folder / name)
    log_summary(summary)


def log_summary(summary):
    """Logs what was prepared, and what was odd about it.

    Arguments
    ---------
    summary : dict
        ``database``, ``recordings``, ``subset``, ``protocol``, ``partitions``,
        ``warnings`` and, if any, ``patients_on_both_sides``.
    """
    subset = summary["subset"] or f"{summary['recordings']} recordings"
    logger.info("%s: %s, %s", summary["database"], subset, summary["protocol"])
    for name, count in summary["partitions"].items():
        logger.info("%s: %s", name, count)
    if summary.get("patients_on_both_sides"):
        patients = ", ".join(summary["patients_on_both_sides"])
        logger.warning("patients on both sides of the split: %s", patients)
    for warning in summary["warnings"]:
        logger.warning(printable(warning))


def read_summary(output_folder, manifests, summary_name):
    """The summary of an earlier call, if its manifests are there.

    Arguments
    ---------
    output_folder : str or pathlib.Path
        Where that call wrote.
    manifests : sequence of str
        File names of the manifests to keep.
    summary_name : str
        File name of the summary.

    Returns
    -------
    summary : dict
        As it was written; a file that is missing is a FileNotFoundError.
    """
    output_folder = Path(output_folder).resolve()
    names = (*manifests, summary_name)
    missing = [name for name in names if not (output_folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"skip_prep is set, but {output_folder} lacks {', '.join(missing)}"
        )
    return read_json(output_folder / summary_name)


def read_manifest(path, data_folder):
    """The entries of a manifest, with the data's folder in their paths.

    Arguments
    ---------
    path : str or pathlib.Path
        JSON as `write_manifests` writes it.
    data_folder : str or pathlib.Path
        What ``{data_root}`` stands for.

    Returns
    -------
    entries : dict
        By id.

    Raises
    ------
    OSError, ValueError
        If it cannot be read or is no manifest.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test.json"
    >>> entry = {"wav": {"file": "{data_root}/a.wav", "start": 0, "stop": 8}}
    >>> write_json({"a_0": entry}, path)
    >>> read_manifest(path, "/data")["a_0"]["wav"]["file"]
    '/data/a.wav'
    """
    # Here, because annotations are read without it, and it takes seconds.
    from speechbrain.dataio.dataio import load_data_json

    # SpeechBrain hangs where it is a FIFO, and takes an id twice.
    entries = read_json(path, LARGEST_TABLE)
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("wav"), dict)
        for entry in entries.values()
    ):
        raise ValueError(f"{path} is no manifest: entries with wav by their id")
    return load_data_json(path, {"data_root": str(data_folder)})
