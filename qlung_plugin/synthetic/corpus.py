"""What the generated corpora share: folder, recording, command line.

Authors
 * qlung_plugin contributors
"""

import argparse
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from qlung_plugin.synthetic import sounds


@contextmanager
def new_corpus_folder(output_folder, title, entries):
    """A folder to write a corpus to, which takes its place when complete.

    Arguments
    ---------
    output_folder : str or pathlib.Path
        Where the corpus is to be: nothing yet, an empty folder, or a previous
        corpus with the same title, which is replaced.
    title : str
        First line of the ``README.txt`` by which a corpus is known.
    entries : set
        Names that a corpus has at its top. A folder with others in it holds
        work of the user and is refused.

    Yields
    ------
    folder : pathlib.Path
        Where to write. It is removed if writing fails.
    """
    target = Path(output_folder).resolve()
    if target.exists() and not _replaceable(target, title, entries):
        raise FileExistsError(
            f"{target} exists and is not a corpus that this command wrote. "
            "Name a new or an empty folder."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since only within a file system is a move atomic.
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", dir=target.parent
    ) as workshop:
        new = Path(workshop, "new")
        new.mkdir()
        yield new
        if target.exists():
            os.replace(target, Path(workshop, "previous"))
        os.replace(new, target)


def _replaceable(folder, title, entries):
    """Whether a folder is empty or a previous corpus, and nothing else."""
    if not folder.is_dir():
        return False
    found = set(os.listdir(folder))
    if not found:
        return True
    readme = folder / "README.txt"
    return (
        found <= entries
        and readme.is_file()
        and readme.read_text(errors="replace").startswith(title)
    )


def write_text(path, lines):
    """The same bytes on every system, whatever its line ends."""
    Path(path).write_bytes("".join(lines).encode())


def check_sizes(patients, recordings):
    """Refuses a corpus that cannot have two sides, or no recordings."""
    if not 2 <= patients <= 99:
        raise ValueError(f"patients must be 2 to 99, got {patients}")
    if recordings < 1:
        raise ValueError(f"recordings must be 1 or more, got {recordings}")


def deal(shares, count, rng):
    """Positions of a share each, to the nearest one, in random order.

    Arguments
    ---------
    shares : sequence of float
        Shares that add up to 1.
    count : int
        How many to deal.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    positions : numpy.ndarray
        Integers ``[count]``, positions in the shares.

    Example
    -------
    >>> dealt = deal((0.25, 0.25, 0.5), 4, np.random.default_rng(0))
    >>> sorted(dealt.tolist())
    [0, 1, 2, 2]
    """
    place = (np.arange(count) + 0.5) / count
    return rng.permutation(np.searchsorted(np.cumsum(shares), place))


def record_chest(lungs, sample_rate, rng, snr, pulse, band, level):
    """What a stethoscope records of lungs: with room, heart and muscles.

    Arguments
    ---------
    lungs : numpy.ndarray
        Waveform [samples] of breathing, 1 being its RMS at its loudest.
    sample_rate : int
        Sample rate in Hz.
    rng : numpy.random.Generator
        Source of chance.
    snr : float
        Ratio of the lungs to the room in dB.
    pulse : tuple
        Range of the heart rate, in beats per minute.
    band : tuple
        Edges at -3 dB of the device, in Hz.
    level : float
        Mean RMS of the device's recordings in dB of full scale; a recording
        departs from it by up to 4 dB.

    Returns
    -------
    recorded : numpy.ndarray
        Waveform [samples], clipped at 1.
    """
    duration = len(lungs) / sample_rate
    room = sounds.ambient_noise(duration, sample_rate, rng)
    # Muscles and the hand: strong below 60 Hz in most real recordings.
    low = sounds.falling(30.0, 24.0)
    rumble = sounds.shaped_noise(len(lungs), sample_rate, rng, low)
    heart = sounds.heart_beats(duration, sample_rate, rng, rng.uniform(*pulse))
    chest = sounds.mix_at_snr(lungs, room, snr)
    chest += rumble + rng.uniform(2, 6) * heart
    recorded = sounds.band_limit(chest, sample_rate, *band)
    level = level + rng.uniform(-4, 4)
    recorded *= 10 ** (level / 20) / recorded.std()
    # Real ones clip, too.
    return np.clip(recorded, -1, 1)


def run_command(generate, name, database, patients, arguments=None):
    """The command line of a generator; prints what was written as JSON.

    Arguments
    ---------
    generate : callable
        Takes ``output_folder``, ``seed``, ``patients``, ``recordings`` and
        returns a summary.
    name : str
        The generator's module in ``qlung_plugin.synthetic``.
    database : str
        Whose layout the corpus has.
    patients : int
        How many there are by default.
    arguments : list of str, optional
        What stands behind the command; that of the process by default.
    """
    command = f"python -m qlung_plugin.synthetic.{name}"
    parser = argparse.ArgumentParser(
        prog=command,
        description="Writes a small generated corpus in the layout of "
        f"{database}. It is a demonstration and a test bed: no score on it is "
        "a result.",
        epilog=f"example: {command} demo_{name} --seed 0",
    )
    parser.add_argument("output_folder", help="a new or an empty folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--patients",
        type=int,
        default=patients,
        help=f"2 to 99, default {patients}",
    )
    parser.add_argument(
        "--recordings", type=int, default=3, help="per patient, default 3"
    )
    options = parser.parse_args(arguments)
    try:
        summary = generate(**vars(options))
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))
    print(json.dumps(summary, indent=2))
