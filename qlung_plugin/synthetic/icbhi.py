"""A small generated corpus in the native layout of ICBHI 2017.

It is a demonstration and a test bed: no score on it is a result. ICBHI's file
names, annotations and split, its class imbalance, devices with their own
bands and levels, several noise levels. Its patients count from 901, so that
they cannot be taken for ICBHI's (101 to 226).

> python -m qlung_plugin.synthetic.icbhi demo_icbhi --seed 0

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
from qlung_plugin.synthetic.sounds import CRACKLE_KINDS, Chest, Device, add_at

DATABASE = "ICBHI 2017"
CRACKLES, WHEEZES = ("crackle", "both"), ("wheeze", "both")
LOCATIONS = ("Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr")
SNRS = (30, 20, 10, 3)  # dB, of lung sound to room noise
FIRST_PATIENT = 901

# Share of each label in the cycles of a patient, by the state of the lung.
STATES = {
    "healthy": {"normal": 1.0},
    "crackles": {"normal": 0.4, "crackle": 0.6},
    "wheezes": {"normal": 0.4, "wheeze": 0.6},
    "both": {"normal": 0.25, "crackle": 0.25, "wheeze": 0.2, "both": 0.3},
}
DIAGNOSES = {
    "healthy": ("Healthy", "URTI"),
    "crackles": ("Pneumonia", "Bronchiectasis"),
    "wheezes": ("Asthma", "Bronchiolitis"),
    "both": ("COPD",),
}
# Dealt to the patients of either side in this order. "both" comes first, since
# it alone has all labels; over 16 patients the labels come out as in ICBHI
# (53 / 27 / 13 / 7 %).
STATE_DECK = (
    *("both", "crackles", "healthy", "wheezes", "crackles"),
    *("healthy", "both", "crackles", "healthy", "both"),
)


# In the spirit of those whose names they bear. The first is single-channel or
# multichannel.
DEVICES = {
    "AKGC417L": ("mc", Device(44100, "PCM_24", (40, 4000), -24.0)),
    "LittC2SE": ("mc", Device(44100, "PCM_24", (20, 1000), -15.0)),
    "Litt3200": ("sc", Device(4000, "PCM_16", (80, 700), -21.0)),
    "Meditron": ("sc", Device(44100, "PCM_16", (20, 2000), -28.0)),
}
# Also dealt in order. As in ICBHI, LittC2SE is in training only and Litt3200
# mostly in the test: a shift of devices.
DEVICE_DECKS = {
    "train": ("Meditron", "AKGC417L", "LittC2SE", "Litt3200"),
    "test": ("Litt3200", "Meditron", "AKGC417L", "Litt3200"),
}

FOLDER = "audio_and_txt_files"
SPLIT_FILE = "ICBHI_challenge_train_test.txt"
DEMOGRAPHICS, DIAGNOSES_FILE = "demographic_info.txt", "patient_diagnosis.csv"


def generate_icbhi_like(
    output_folder: Path | str,
    seed: int = 0,
    patients: int = 16,
    recordings: int = 3,
) -> dict[str, dict]:
    """Writes a generated corpus in the layout of ICBHI 2017.

    60 % of the patients are in the training side. Both sides have all four
    labels; from 16 patients on, each label is in at least 3 patients of the
    training side, so that some can be held out for validation.

    See :func:`qlung_plugin.synthetic.corpus.write_corpus` for the folder and
    the summary.
    """
    entries = {FOLDER, SPLIT_FILE, DEMOGRAPHICS, DIAGNOSES_FILE}
    sizes = seed, patients, recordings
    return write_corpus(output_folder, DATABASE, entries, _write, *sizes)


class Patient:
    """Who is recorded, and what the lungs sound like."""

    def __init__(self, place: Place, rng: np.random.Generator):
        self.number = FIRST_PATIENT + place.number
        self.side, self.seed = place.side, place.seed
        self.state = STATE_DECK[place.position % len(STATE_DECK)]
        devices = DEVICE_DECKS[place.side]
        self.device = devices[place.position % len(devices)]
        self.child = bool(rng.random() < 0.25)
        self.demographics = _draw_demographics(self.child, rng)
        self.diagnosis = rng.choice(DIAGNOSES[self.state])
        # Seconds, mean length.
        self.breath = rng.uniform(*((1.2, 1.5) if self.child else (1.5, 2.1)))
        self.crackle_kind = rng.choice(list(CRACKLE_KINDS))
        self.wheeze_pitch = np.exp(rng.uniform(np.log(150), np.log(600)))


def _write(
    root: Path, seed: int, patients: int, recordings: int
) -> Iterator[Recording]:
    """Recordings, split, demographics and diagnoses as ICBHI has them."""
    places, rng = deal_sides(seed, patients, 0.6, ("train", "test"))
    cohort = [Patient(place, rng) for place in places]
    # ICBHI, too, knows nothing of one patient.
    cohort[-1].demographics = "NA NA NA NA NA"
    cohort.sort(key=lambda patient: patient.number)
    (root / FOLDER).mkdir()
    split = []
    for patient in cohort:
        for written in _write_recordings(root, patient, recordings):
            split.append(f"{written.name}\t{patient.side}\n")
            yield written
    write_text(root / SPLIT_FILE, split)
    demographics = (f"{p.number} {p.demographics}\n" for p in cohort)
    write_text(root / DEMOGRAPHICS, demographics)
    diagnoses = (f"{p.number},{p.diagnosis}\n" for p in cohort)
    write_text(root / DIAGNOSES_FILE, ["ID,CLASS\n", *diagnoses])


def _draw_demographics(child: bool, rng: np.random.Generator) -> str:
    """Age, sex, adult BMI, child weight in kg and height in cm."""
    sex = rng.choice(("F", "M"))
    if child:
        age = int(rng.integers(2, 13))
        return f"{age} {sex} NA {9 + 2.5 * age:g} {80 + 6 * age}"
    return f"{rng.integers(30, 86)} {sex} {rng.uniform(19, 34):.1f} NA NA"


def _write_recordings(
    root: Path, patient: Patient, count: int
) -> Iterator[Recording]:
    """Writes the recordings of one patient and describes each."""
    seed, *seeds = patient.seed.spawn(1 + count)
    rng = np.random.default_rng(seed)
    dealt = deal_sounds(STATES[patient.state], count, rng)
    locations = rng.permutation(LOCATIONS)
    mode, device = DEVICES[patient.device]
    for index, (labels, seed) in enumerate(zip(dealt, seeds)):
        visit, place = divmod(index, len(LOCATIONS))
        where = f"{visit + 1}b1_{locations[place]}"
        name = f"{patient.number}_{where}_{mode}_{patient.device}"
        rng = np.random.default_rng(seed)
        snr = int(rng.choice(SNRS))
        sound, bounds = _synthesise(patient, device, labels, snr, rng)
        wav = root / FOLDER / f"{name}.wav"
        soundfile.write(wav, sound, device.sample_rate, device.subtype)
        lines = (
            f"{start:.3f}\t{end:.3f}\t{label in CRACKLES:d}"
            f"\t{label in WHEEZES:d}\n"
            for start, end, label in zip(bounds, bounds[1:], labels)
        )
        write_text(wav.with_suffix(".txt"), lines)
        yield Recording(
            name, patient.side, patient.number, patient.state, snr, labels
        )


def _synthesise(
    patient: Patient,
    device: Device,
    labels: list[str],
    snr: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The waveform of a recording, and the bounds of its cycles in s."""
    rate, chest = device.sample_rate, Chest(device.sample_rate, rng)
    lengths = patient.breath * rng.uniform(0.85, 1.15, len(labels))
    # To the millisecond, as written, so that the annotation is exact.
    bounds = np.cumsum([rng.uniform(0.05, 0.3), *lengths]).round(3)
    duration = bounds[-1] + rng.uniform(0.05, 0.3)
    lungs = np.zeros(round(duration * rate))
    # Clear in most recordings, in some of the noisiest faint.
    loudness = (0.2, 0.8) if snr == min(SNRS) else (0.7, 1.2)
    for start, end, label in zip(bounds, bounds[1:], labels):
        pitch = patient.wheeze_pitch * rng.uniform(0.9, 1.1)
        breath = chest.breath(
            end - start,
            patient.crackle_kind if label in CRACKLES else None,
            pitch if label in WHEEZES else None,
            strength=rng.uniform(*loudness),
            corner=130.0 if patient.child else 100.0,
        )
        add_at(lungs, breath, round(start * rate))
    pulse = (90.0, 120.0) if patient.child else (60.0, 90.0)
    return chest.record(lungs, snr, pulse, device), bounds


main = partial(run_command, generate_icbhi_like, "icbhi", DATABASE)

if __name__ == "__main__":
    main()
