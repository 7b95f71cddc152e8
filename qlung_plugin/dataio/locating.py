"""Where the cycles of a database lie in its recordings, in samples.

A preparation turns annotations into cycles: a dict per annotated stretch of a
recording, with ``id``, ``recording``, ``patient``, ``label``, ``wav`` (the
path), ``start`` and ``end`` (seconds), ``where`` (the place of the annotation,
for messages), ``side`` (train or test) and further facts. What is odd but
usable becomes a sentence with a count in a list of warnings.

Authors
 * qlung_plugin contributors
"""

import math
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.folders import report_problems
from qlung_plugin.dataio.headers import TOLERANCE, read_extent
from qlung_plugin.utils.ordinary_files import ordinary_size

BLOCK = 2**16  # samples that are looked at together


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
