"""A small generated corpus in the layout of SPRSound, release 2022.

It is a demonstration and a test bed: no score on it is a result. SPRSound's
folders, file names and annotations, children of its ages and their breathing
rates, one device, a few recordings that are marked as of poor quality. Its
patients' numbers, from 9001, have four digits, so that they cannot be taken
for SPRSound's, which have eight.

> python -m qlung_plugin.synthetic.sprsound demo_sprsound --seed 0

Authors
 * qlung_plugin contributors
"""

import json
from collections.abc import Iterator
from functools import partial
from itertools import chain
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
from qlung_plugin.synthetic.sounds import Chest, Device, add_at

DATABASE = "SPRSound 2022"
DEVICE = Device(8000, "PCM_16", (60, 1300), -19.0)
RATE = DEVICE.sample_rate
PULSE = (90, 130)  # beats per minute
SNRS = (25, 15, 8, 2)  # dB, of lung sound to room noise
POOR_SNRS = (-12, -6, 0)  # of recordings of poor quality
FIRST_PATIENT = 9001

# Share of each type of event, by the state of the lung.
STATES = {
    "healthy": {"Normal": 1.0},
    "fine": {"Normal": 0.4, "Fine Crackle": 0.6},
    "coarse": {"Normal": 0.5, "Coarse Crackle": 0.5},
    "wheezes": {"Normal": 0.4, "Wheeze": 0.6},
    "rhonchi": {"Normal": 0.6, "Rhonchi": 0.4},
    "stridor": {"Normal": 0.7, "Stridor": 0.3},
    "both": {
        "Normal": 0.3,
        "Fine Crackle": 0.2,
        "Wheeze": 0.2,
        "Wheeze+Crackle": 0.3,
    },
}
# Dealt to the patients in this order. "both" comes first, since it alone has
# all four labels of ICBHI; as in SPRSound, rhonchi and stridor are in training
# only, and what is abnormal in the inter-patient test is mostly wheezes.
STATE_DECKS = {
    "train": (
        *("both", "wheezes", "healthy", "fine", "both"),
        *("rhonchi", "healthy", "coarse", "stridor", "both"),
    ),
    "inter": ("both", "wheezes", "healthy", "fine", "wheezes", "healthy"),
}
CRACKLES = {
    "Fine Crackle": "fine",
    "Coarse Crackle": "coarse",
    "Wheeze+Crackle": "fine",
}
# Mean pitch in Hz, of a wheeze times that of the patient's.
PITCHES = {"Wheeze": 1.0, "Wheeze+Crackle": 1.0, "Rhonchi": 0.4}
CONTINUOUS = {"Wheeze", "Wheeze+Crackle", "Rhonchi", "Stridor"}

FOLDERS = {  # of audio and of annotations, by partition
    "train": ("train_wav", "train_json"),
    "intra": ("test_wav", "test_json/intra_test_json"),
    "inter": ("test_wav", "test_json/inter_test_json"),
}


def generate_sprsound_like(
    output_folder: Path | str,
    seed: int = 0,
    patients: int = 20,
    recordings: int = 3,
) -> dict[str, dict]:
    """Writes a generated corpus in the layout of SPRSound 2022.

    65 % of the patients are in `train`, the others in `inter`. Every other
    patient of `train` has two further recordings: one in `intra`, one of poor
    quality in `train`, half of which are without events. Each partition has
    normal, crackle, wheeze and both.

    See :func:`qlung_plugin.synthetic.corpus.write_corpus` for the folder and
    the summary.
    """
    entries = {Path(folder).parts[0] for folder in chain(*FOLDERS.values())}
    sizes = seed, patients, recordings
    return write_corpus(output_folder, DATABASE, entries, _write, *sizes)


class Patient:
    """Who is recorded, and what the lungs sound like."""

    def __init__(self, place: Place, rng: np.random.Generator):
        self.number = FIRST_PATIENT + place.number
        self.side, self.seed = place.side, place.seed
        self.position = place.position
        deck = STATE_DECKS[place.side]
        self.state = deck[place.position % len(deck)]
        self.age = round(float(rng.uniform(0.2, 14.0)), 1)
        self.sex = rng.integers(2)  # 0 male, 1 female, as in the file names
        self.wheeze_pitch = np.exp(rng.uniform(np.log(250), np.log(600)))

    def plan(self, recordings: int) -> Iterator[tuple[str, int, str]]:
        """What is recorded: partition, how often, and whether poorly."""
        yield self.side, recordings, ""
        if self.side == "train" and self.position % 2 == 0:
            yield "intra", 1, ""
            yield "train", 1, "annotated" if self.position % 4 == 0 else "bare"


def _write(
    root: Path, seed: int, patients: int, recordings: int
) -> Iterator[Recording]:
    """Writes the recordings of all patients and describes each."""
    for folder in chain(*FOLDERS.values()):
        (root / folder).mkdir(parents=True, exist_ok=True)
    places, shared = deal_sides(seed, patients, 0.65, ("train", "inter"))
    cohort = [Patient(place, shared) for place in places]
    number = 0
    for patient in sorted(cohort, key=lambda patient: patient.number):
        rng = np.random.default_rng(patient.seed)
        for partition, count, poor in patient.plan(recordings):
            for types in deal_sounds(STATES[patient.state], count, rng):
                number += 1
                yield _write_recording(
                    root, partition, patient, number, types, poor, rng
                )


def _write_recording(
    root: Path,
    partition: str,
    patient: Patient,
    number: int,
    types: list[str],
    poor: str,
    rng: np.random.Generator,
) -> Recording:
    """Writes one recording with its annotation, and describes it."""
    place = rng.integers(1, 5)
    name = f"{patient.number}_{patient.age}_{patient.sex}_p{place}_{number}"
    snr = int(rng.choice(POOR_SNRS if poor else SNRS))
    sound, bounds = _synthesise(patient, types, snr, bool(poor), rng)
    if poor == "bare":
        types = []
    events = [
        # Milliseconds as texts, as SPRSound has them.
        {"start": f"{start}", "end": f"{end}", "type": kind}
        for (start, end), kind in zip(bounds, types)
    ]
    content = {
        "record_annotation": "Poor Quality" if poor else _annotate(types),
        "event_annotation": events,
    }
    audio, annotations = (root / folder for folder in FOLDERS[partition])
    soundfile.write(audio / f"{name}.wav", sound, RATE, DEVICE.subtype)
    write_text(annotations / f"{name}.json", [json.dumps(content)])
    return Recording(name, partition, patient.number, patient.state, snr, types)


def _annotate(types: list[str]) -> str:
    """The annotation of a recording as a whole: which sounds it has."""
    heard = {"CAS": CONTINUOUS, "DAS": CRACKLES.keys()}
    parts = [name for name, kinds in heard.items() if kinds & set(types)]
    return " & ".join(parts) or "Normal"


def _synthesise(
    patient: Patient,
    types: list[str],
    snr: int,
    poor: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The waveform of a recording, and the bounds of its events in ms."""
    chest = Chest(RATE, rng)
    # About the medians of Fleming et al. 2011, Lancet 377: 43 breaths a minute
    # in the newborn, 24 at 5 years, 19 at 14.
    breath = 60 / (19 + 24 * np.exp(-patient.age / 3))
    lengths = breath * rng.uniform(0.85, 1.15, len(types))
    onsets = np.cumsum([rng.uniform(0.1, 0.6), *lengths])
    lungs = np.zeros(round((onsets[-1] + rng.uniform(0.1, 0.6)) * RATE))
    bounds = []
    for onset, length, kind in zip(onsets, lengths, types):
        sound = _breathe(chest, patient, kind, length)
        add_at(lungs, sound, round(onset * RATE))
        # The last tenth of a breath is a pause.
        end = onset + 0.9 * length
        bounds.append((round(1000 * onset), round(1000 * end)))
    if poor:
        lungs += _rubbing(chest, len(lungs))
    return chest.record(lungs, snr, PULSE, DEVICE), bounds


def _breathe(
    chest: Chest, patient: Patient, kind: str, length: float
) -> np.ndarray:
    """One breath of some type."""
    pitch = patient.wheeze_pitch * chest.rng.uniform(0.9, 1.1)
    strength = chest.rng.uniform(0.7, 1.2)
    sound = chest.breath(
        length,
        CRACKLES.get(kind),
        PITCHES[kind] * pitch if kind in PITCHES else None,
        strength,
        corner=130.0,
    )
    if kind == "Stridor":  # high, loud, and in inspiration
        tone = chest.wheeze(0.35 * length, 1.6 * pitch)
        add_at(sound, 0.8 * strength * tone, round(0.03 * length * RATE))
    return sound


def _rubbing(chest: Chest, samples: int) -> np.ndarray:
    """Strokes of the stethoscope on skin and cloth, about three a second."""
    track, rng = np.zeros(samples), chest.rng
    for _ in range(round(3 * samples / RATE)):
        length = round(rng.uniform(0.05, 0.4) * RATE)
        noise = chest.noise(length, 900, 6)
        stroke = rng.uniform(1, 4) * noise * np.hanning(length)
        add_at(track, stroke, int(rng.integers(samples)))
    return track


main = partial(run_command, generate_sprsound_like, "sprsound", DATABASE)

if __name__ == "__main__":
    main()
