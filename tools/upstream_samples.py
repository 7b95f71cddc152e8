"""Tiny generated corpora for the recipe tests of SpeechBrain.

Authors
 * qlung_plugin contributors
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch

from qlung_plugin.processing.cycles import resample
from qlung_plugin.synthetic.icbhi import generate_icbhi_like
from qlung_plugin.synthetic.sprsound import FOLDERS, generate_sprsound_like

README = """\
Synthetic sounds in the layout of the database that the folder is named after, made
by qlung_plugin to test the recipe. No score on them is a result.
"""
RATE = 4000  # Hz, as low as ICBHI's lowest: the sounds end below 2 kHz


def icbhi_samples() -> dict[str, bytes]:
    """The files of a corpus like ICBHI's, all labels on both of its sides."""
    return _generate(generate_icbhi_like, seed=0, patients=5)


def sprsound_samples() -> dict[str, bytes]:
    """The files of a partition like SPRSound's `inter`."""
    files = _generate(generate_sprsound_like, seed=0, patients=6)
    wavs, annotations = FOLDERS["inter"]
    names = {Path(n).stem for n in files if n.startswith(f"{annotations}/")}
    return {
        name: content
        for name, content in files.items()
        if name == "README.txt"
        or name.startswith((f"{wavs}/", f"{annotations}/"))
        and Path(name).stem in names
    }


def _generate(
    generate: Callable[..., object], seed: int, patients: int
) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        generate(corpus, seed=seed, patients=patients, recordings=1)
        for wav in corpus.rglob("*.wav"):
            sound, rate = soundfile.read(wav, dtype="float32")
            sound = resample(torch.from_numpy(sound), rate, RATE)
            soundfile.write(wav, sound.numpy(), RATE, "PCM_16")
        (corpus / "generation.csv").unlink()
        (corpus / "README.txt").write_text(README, encoding="utf-8")
        return {
            path.relative_to(corpus).as_posix(): path.read_bytes()
            for path in sorted(corpus.rglob("*"))
            if path.is_file()
        }
