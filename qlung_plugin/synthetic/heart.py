"""A small generated corpus of heart sounds, labelled by a table.

It is a demonstration and a test bed: no score on it is a result. There is a row
per beat of the heart, without a murmur, or with one in systole (between the first
and the second sound) or diastole (after it). What makes a model of it is
`recipes/CSV`, which knows no more of hearts than the table says.

> python -m qlung_plugin.synthetic.heart demo_heart --seed 0

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from qlung_plugin.synthetic.corpus import (
    Place,
    Recording,
    deal_sides,
    deal_sounds,
    run_command,
    write_corpus,
    write_text,
)
from qlung_plugin.synthetic.sounds import (
    Chest,
    Device,
    add_at,
    band_limit,
    mix_at_snr,
    thump,
)

DATABASE = "a table of heart sounds"
DEVICE = Device(4000, "PCM_16", (25, 800), -20.0)
RATE = DEVICE.sample_rate
PLACES = ("aortic", "pulmonary", "tricuspid", "mitral")  # on the chest
SNRS = (25, 15, 8)  # dB, of the heart to room noise
SYSTOLE = 0.35  # of a beat
COLUMNS = "path,start,end,label,patient,device,age,sex,location"

# Share of each label, by the state of the heart.
STATES = {
    "healthy": {"no murmur": 1.0},
    "stenosis": {"no murmur": 0.2, "systolic murmur": 0.8},
    "regurgitation": {"no murmur": 0.2, "diastolic murmur": 0.8},
}


def generate_heart_like(
    output_folder: Path | str,
    seed: int = 0,
    patients: int = 15,
    recordings: int = 3,
) -> dict[str, dict]:
    """Writes a generated corpus of heart sounds: ``wav/*.wav`` and ``table.csv``.

    Each recording has 4 to 6 beats. See
    :func:`qlung_plugin.synthetic.corpus.write_corpus` for the folder and the
    summary.
    """
    sizes = seed, patients, recordings
    return write_corpus(
        output_folder, DATABASE, {"wav", "table.csv"}, _write, *sizes
    )


def _write(
    root: Path, seed: int, patients: int, recordings: int
) -> Iterator[Recording]:
    """Writes the recordings of all patients, and the table; describes each."""
    (root / "wav").mkdir()
    rows = [f"{COLUMNS}\n"]
    places, shared = deal_sides(seed, patients, 1.0, ("all", "all"))
    for place in sorted(places, key=lambda place: place.number):
        state = list(STATES)[place.number % len(STATES)]
        facts = f"{shared.integers(20, 80)},{'MF'[shared.integers(2)]}"
        rng = np.random.default_rng(place.seed)
        dealt = deal_sounds(STATES[state], recordings, rng)
        for number, labels in enumerate(dealt):
            name, snr = f"{_patient(place)}_{number}", int(rng.choice(SNRS))
            sound, bounds = _synthesise(labels, snr, rng)
            path = f"wav/{name}.wav"
            soundfile.write(root / path, sound, RATE, DEVICE.subtype)
            where = PLACES[rng.integers(len(PLACES))]
            rows += [
                f"{path},{start:.3f},{end:.3f},{label},{_patient(place)},"
                f"generated,{facts},{where}\n"
                for (start, end), label in zip(bounds, labels)
            ]
            yield Recording(name, "all", place.number, state, snr, labels)
    write_text(root / "table.csv", rows)


def _patient(place: Place) -> str:
    return f"h{place.number:02d}"


def _synthesise(
    labels: list[str], snr: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The waveform of a recording, and the bounds of its beats in seconds."""
    chest = Chest(RATE, rng)
    periods = 60 / rng.uniform(60, 90) * rng.uniform(0.95, 1.05, len(labels))
    bounds = np.cumsum([rng.uniform(0.1, 0.5), *periods])
    heart = np.zeros(round((bounds[-1] + 0.3) * RATE))
    for start, period, label in zip(bounds, periods, labels):
        for delay, loudness, pitch in ((0, 1.0, 45.0), (SYSTOLE, 0.6, 60.0)):
            beat = loudness * rng.uniform(0.8, 1.2) * thump(pitch, RATE)
            add_at(heart, beat, round((start + delay * period) * RATE))
        if label != "no murmur":
            onset, murmur = _murmur(chest, period, label)
            add_at(heart, murmur, round((start + onset) * RATE))
    room = chest.room(len(heart) / RATE)
    recorded = band_limit(mix_at_snr(heart, room, snr), RATE, DEVICE.band)
    recorded *= 10 ** (DEVICE.level / 20) / recorded.std()
    return np.clip(recorded, -1, 1), list(zip(bounds[:-1], bounds[1:]))


def _murmur(
    chest: Chest, period: float, label: str
) -> tuple[float, np.ndarray]:
    """When a murmur begins after a beat does, and its waveform.

    In systole it swells and falls; in diastole it is higher, and falls.
    """
    systolic = label.startswith("systolic")
    onset = (0.0 if systolic else SYSTOLE) * period + 0.1
    length = (SYSTOLE if systolic else 0.4) * period - 0.05
    samples = round(length * RATE)
    shape = np.hanning(samples) if systolic else np.linspace(1, 0, samples)
    band = (80, 250) if systolic else (200, 500)
    noise = band_limit(chest.noise(samples, 500.0, 12.0), RATE, band)
    strength = chest.rng.uniform(0.2, 0.5)
    return onset, strength * shape * noise / noise.std()


main = partial(run_command, generate_heart_like, "heart", DATABASE)

if __name__ == "__main__":
    main()
