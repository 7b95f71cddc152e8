"""Run folders without a model to make pages of, and how to read a page.

Authors
 * qlung_plugin contributors
"""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch

from qlung_plugin.report.page import render_page
from qlung_plugin.report.recordings import use_recordings
from qlung_plugin.report.sources import find_runs
from qlung_plugin.runs import results
from qlung_plugin.runs.predictions import predictions_table
from qlung_plugin.runs.results import write_run_results
from qlung_plugin.scores.icbhi_score import LABELS, RespiratoryScore

DATA = {
    "database": "ICBHI 2017",
    "subset": "8 of 920 recordings",
    "split": "official",
    "protocol": "official split, validation on fold 0 of 5",
}
RATE = 4000  # Hz
PATIENTS, CYCLES = 8, 6  # of each patient
DEVICES = ("Meditron", "Litt3200", None)


def write_recordings(folder, rate=RATE):
    """A recording per patient, of noise and tones."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    time = np.arange(CYCLES * rate) / rate
    for patient in range(PATIENTS):
        wave = 0.02 * rng.normal(size=len(time))
        wave += 0.1 * np.sin(2 * np.pi * 100 * (1 + patient) * time)
        soundfile.write(folder / f"{patient:03d}_1b1.wav", wave, rate)
    return folder


def make_manifest(labels=LABELS, devices=DEVICES):
    """Entries of all cycles, one per second."""
    manifest = {}
    for patient in range(PATIENTS):
        for cycle in range(CYCLES):
            recording = f"{patient:03d}_1b1"
            manifest[f"{recording}_{cycle:03d}"] = {
                "wav": {
                    "file": f"{{data_root}}/{recording}.wav",
                    "start": cycle * RATE,
                    "stop": (cycle + 1) * RATE,
                },
                "sample_rate": RATE,
                "duration": 1.0,
                "label": labels[(patient + cycle) % len(labels)],
                "patient": f"{patient:03d}",
                "recording": recording,
                "device": devices[patient % len(devices)],
                "age": [2.0, 40.0, None][patient % 3],
                "sex": "FM"[patient % 2],
                "location": ["Al", "Pr"][patient % 2],
            }
    return manifest


def make_table(manifest, seed, labels, unmeasured=()):
    """Predictions that are mostly right."""
    rng = np.random.default_rng(seed)
    ids = list(manifest)
    targets = [labels.index(manifest[key]["label"]) for key in ids]
    logits = rng.normal(size=(len(ids), len(labels)))
    logits[range(len(ids)), targets] += 1
    stats = RespiratoryScore(labels=labels)
    probabilities = torch.tensor(logits).softmax(1)
    stats.append(ids, probabilities, torch.tensor(targets)[:, None])
    quality = dict(zip(ids, rng.uniform(size=len(ids)).round(3)))
    quality = {k: v for k, v in quality.items() if k not in unmeasured}
    return predictions_table(stats, manifest, quality=quality)


def write_run(
    folder,
    recordings,
    seed=1,
    labels=LABELS,
    manifest=None,
    validated=True,
    unmeasured=(),
    data=DATA,
):
    """A folder as a training leaves it, but for its checkpoints."""
    folder.mkdir(parents=True)
    labels = list(labels)
    manifest = manifest or make_manifest(labels)
    names = ("selected", "last", "test_selected")
    with pytest.MonkeyPatch.context() as patch:
        # It takes longer than all the rest, and the page does not use it.
        patch.setattr(results, "write_quality_analysis", lambda *args: None)
        write_run_results(
            folder,
            tables={
                name: make_table(manifest, seed + place, labels, unmeasured)
                for place, name in enumerate(names)
            },
            epochs={"selected": 3, "last": 9, "test_selected": 5},
            data=data,
            labels=labels,
            partition="test side of the official split",
            validated=validated,
        )
    (folder / "test.json").write_text(json.dumps(manifest))
    write_configuration(folder, recordings)
    return folder


def write_configuration(folder, recordings):
    """Says where the recordings of a run are."""
    options = {"data_folder": str(recordings), "seed": 1}
    text = json.dumps({"script": "train.py", "options": options})
    (folder / "configuration.json").write_text(text)


class Tables(HTMLParser):
    """The cells of all tables by the id of their section, and the scripts."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.scripts, self.texts = {}, [], []
        self.section = self.cell = self.script = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.section = attributes["id"]
        elif tag == "table":
            self.tables.setdefault(self.section, []).append([])
        elif tag == "tr":
            self.tables[self.section][-1].append([])
        elif tag in ("td", "th"):
            self.cell = []
        elif tag == "br" and self.cell is not None:
            self.cell.append(" ")
        elif tag == "script":
            self.script = []

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            text = " ".join("".join(self.cell).split())
            self.tables[self.section][-1][-1].append(text)
            self.cell = None
        elif tag == "script":
            self.scripts.append("".join(self.script))
            self.script = None

    def handle_data(self, data):
        if self.script is not None:
            self.script.append(data)
        elif self.cell is not None:
            self.cell.append(data)
        else:
            self.texts.append(data)


def render(folder, **options):
    """Page, its data, and its notes, of a run without a map."""
    runs, evaluations, notes = find_runs([folder])
    recordings = use_recordings(runs, method="none", **options)
    text = render_page(runs, evaluations, notes, recordings)
    return text, json.loads(Tables(text).scripts[0]), recordings.notes
