"""A labelled table with recordings, as a user's own data are.

Authors
 * qlung_plugin contributors
"""

import csv

import numpy as np
import soundfile

RATE = 4000
LENGTH = 1.5  # s of each stretch


def sound(label, generator, patient=0, seconds=LENGTH):
    """Noise; of another class than normal with a tone, unlike in each patient."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = 0.05 * generator.standard_normal(len(time))
    if label == "normal":
        return noise
    pitch = {"wheeze": 400, "crackle": 900}.get(label, 1400)
    return noise + 0.5 * np.sin(2 * np.pi * (pitch + 5 * patient) * time)


def make_table(
    folder,
    labels=("normal", "wheeze"),
    patients=12,
    each=1,
    whole=False,
    seconds=LENGTH,
    noise=0.0,
    **facts,
):
    """Writes a recording per patient and ``table.csv``, whose path is returned.

    In each recording there are ``each`` stretches of every class; if they are
    ``whole``, a patient's recordings have one class. ``noise`` is the share of
    wrong labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    rows = []
    for patient in range(patients):
        names = list(labels) * each
        said = [
            labels[generator.integers(len(labels))]
            if generator.random() < noise
            else name
            for name in names
        ]
        sounds = [sound(n, generator, patient, seconds) for n in names]
        times = [(i * seconds, (i + 1) * seconds) for i in range(len(names))]
        if whole:
            for i, (name, wave) in enumerate(zip(said, sounds)):
                path = f"{patient}_{i}.wav"
                soundfile.write(folder / path, wave, RATE)
                rows.append({"path": path, "label": name})
        else:
            path = f"{patient}.wav"
            soundfile.write(folder / path, np.concatenate(sounds), RATE)
            rows += [
                {"path": path, "start": start, "end": end, "label": name}
                for name, (start, end) in zip(said, times)
            ]
        for row in rows:
            row.setdefault("patient", f"p{patient}")
            for name, value in facts.items():
                row.setdefault(
                    name, value(patient) if callable(value) else value
                )
    table = folder / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table
