"""Where the cycles of a database lie in its recordings, in samples.

A preparation turns annotations into cycles: a dict per annotated stretch of a
recording, with ``id``, ``recording``, ``patient``, ``label``, ``wav`` (the
path), ``start`` and ``end`` (seconds), ``where`` (the place of the annotation,
for messages), ``side`` (train or test) and further facts. What is odd but
usable becomes a sentence with a count among the warnings.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tqdm import tqdm

from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.folders import Warnings
from qlung_plugin.dataio.manifests import Cycle
from qlung_plugin.dataio.recordings import Recording


def read_headers(
    wavs: Iterable[Path], warnings: Warnings
) -> dict[Path, Recording]:
    """Looks into recordings, no further than to a sound.

    The warnings gain how many are truncated, or have no sound.
    """
    wavs = sorted(set(wavs))
    progress = tqdm(wavs, desc="Reading audio headers", disable=None)
    recordings = {wav: Recording(wav, allow_truncated=True) for wav in progress}
    shorter, broken, silent = [], [], []
    for wav, recording in recordings.items():
        there = f"{recording.duration:.4g}"
        promised = f"{recording.promised / recording.sample_rate:.4g}"
        if recording.silent:
            silent.append(str(wav))
        if recording.truncated and promised != there:
            shorter.append(f"{wav} ({there} of {promised} s)")
        elif recording.truncated:
            broken.append(f"{wav} ({there} s are there)")
    problems = {
        "recordings truncated, shorter than their header says": shorter,
        "recordings truncated or damaged": broken,
        "recordings without sound, all samples being alike": silent,
    }
    warnings.report(problems, "audio")
    return recordings


def locate_cycles(
    cycles: Iterable[Cycle],
    recordings: Mapping[Path, Recording],
    warnings: Warnings,
    noun: str = "cycles",
) -> list[Cycle]:
    """The cycles with their times in samples, clipped to their recording.

    They gain ``start``, ``stop`` (samples), ``sample_rate`` (Hz) and, of a
    recording of several, ``channels``, whose mean is meant. Those whose ``wav``
    is None are left out.

    The warnings gain how many cycles were clipped, and how many left out
    because nothing of them lies in the recording, it has no sound, or the
    stretch is annotated twice: one of them stays, none if their labels differ.
    ``noun`` is what the database calls its cycles.
    """
    located: dict[tuple[Path, int, int], Cycle] = {}
    excess, unusable, silent, repeated, contrary = [], [], [], [], set()
    for cycle in cycles:
        if cycle["wav"] is None:
            continue
        recording, where = recordings[cycle["wav"]], cycle["where"]
        start, stop = recording.locate(cycle["start"], cycle["end"])
        place = cycle["wav"], start, stop
        if stop <= start:
            unusable.append(where)
        elif recording.silent:
            silent.append(where)
        elif place in located:
            repeated.append(where)
            if located[place]["label"] != cycle["label"]:
                contrary.add(place)
        else:
            rate = recording.sample_rate
            samples = {"start": start, "stop": stop, "sample_rate": rate}
            located[place] = {**cycle, **samples}
            if recording.channels > 1:
                located[place]["channels"] = recording.chosen
            if beyond := recording.excess(cycle["end"]):
                excess.append((1000 * beyond, where))
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
    warnings.report(problems, "annotations")
    return list(located.values())
