"""Tests of digital silence: it improves no quality.

Authors
 * qlung_plugin contributors
"""

import math
import os
from pathlib import Path

import pytest
import soundfile
import torch

from qlung_plugin.inference.quality import make_measures
from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ClippingScore,
    FlatnessScore,
    LearnedQualityScore,
    RecordingMeasurements,
    SNRScore,
)
from tests.unittests.processing.signals import breath

RATE = 4000
DATA = Path(os.environ.get("QLUNG_DATA", "no such folder"))
CASES = DATA.parent / "cases"


def with_gaps(waveform, gaps, value=0.0):
    """The waveform held at a value from and until times in s."""
    waveform = waveform.clone()
    for start, end in gaps:
        waveform[round(start * RATE) : round(end * RATE)] = value
    return waveform


def quality(measure, waveform, rate=RATE):
    values = measure.measure_recorded([waveform], [rate])
    return measure.score(values).item()


MEASURES = make_measures()
FORMULAS = {k: m for k, m in MEASURES.items() if k != "learned_quality"}
GAPS = {
    "one": [(1.0, 2.2)],
    "at the start": [(0.0, 1.2)],
    "at the end": [(4.8, 6.0)],
    "a breath": [(0.4, 1.6)],
    "a pause": [(1.6, 2.4)],
    "as short as any": [(0.1 * i, 0.1 * i + 0.02) for i in range(60)],
    "dropouts": [(0.5 * i, 0.5 * i + 0.1) for i in range(12)],
}


@pytest.mark.parametrize("gaps", GAPS.values(), ids=GAPS)
@pytest.mark.parametrize("offset", [0.0, 0.3])
class TestNoBetterForGaps:
    @pytest.mark.parametrize("measure", FORMULAS.values(), ids=FORMULAS)
    @pytest.mark.parametrize("held", [0.0, 0.313])
    def test_of_a_formula(self, measure, held, gaps, offset):
        waveform = breath() + offset
        before = quality(measure, waveform)
        assert quality(measure, with_gaps(waveform, gaps, held)) <= before

    def test_of_the_learned_score(self, gaps, offset):
        # What is left may be taken for better or worse, as any other cut.
        measure = MEASURES["learned_quality"]
        gap = with_gaps(breath() + offset, gaps)
        values = measure.measure_recorded([gap], [RATE])
        share = (gap == 0).float().mean().item()
        assert values[0, -1].item() == pytest.approx(share, abs=1e-3)
        of_signal = measure.score(values[:, :-1]).item()
        assert measure.score(values).item() == pytest.approx(
            of_signal * (1 - share), abs=1e-3
        )


class TestValues:
    # As they were before silence was looked for, and as the shipped
    # coefficients were fitted to: nothing may change them.
    EXPECTED = {
        "audio_quality": [0.848722, 0.0983617],
        "learned_quality": [
            *(0.935413, -0.378387, -4.95431, 5.77772, 6.99588, 0.0183048),
            *(7.33362, 7.00086, 0.948696, 1.88354, 0.793099, 0.0, 15.9053),
            *(1.69607, 0.951992, 0.848019, 0.0),
        ],
        "snr_quality": [6.31174],
        "flatness_quality": [0.70344],
        "clipping_quality": [0.0],
    }

    @pytest.mark.parametrize("name", EXPECTED)
    def test_without_silence_are_what_they_were(self, name):
        values = MEASURES[name].measure_recorded([breath()], [RATE])
        assert values[0].tolist() == pytest.approx(
            self.EXPECTED[name], rel=1e-3, abs=1e-5
        )

    @pytest.mark.parametrize(
        "measure, in_silence",
        [
            (SNRScore(RATE, f_max=1800), [-20.0]),
            (FlatnessScore(RATE, f_max=1800), [1.0]),
            (AudioQualityScore(RATE, f_max=1800), [1.0, None]),
            (ClippingScore(RATE), [None]),
        ],
    )
    def test_are_means_over_signal_and_silence(self, measure, in_silence):
        signal = breath(4.0)
        expected = measure.measure(signal[None])[0].tolist()
        gap = torch.cat([signal, torch.zeros(RATE)])[None]
        found = measure.measure(gap)[0].tolist()
        for value, alone, worst in zip(found, expected, in_silence):
            if worst is not None:
                alone = 0.8 * alone + 0.2 * worst
                assert value == pytest.approx(alone, abs=1e-4)
        if len(found) == 2:  # the level, whose square is a mean
            level = expected[1] * math.sqrt(0.8)
            assert found[1] == pytest.approx(level, rel=1e-4)

    def test_a_held_converter_is_found_before_resampling(self):
        held = with_gaps(breath(), GAPS["one"], 0.4)
        measure = LearnedQualityScore(16000)
        values = measure.measure_recorded([held], [RATE])
        assert values[0, -1].item() == pytest.approx(0.2, abs=1e-3)

    def test_where_no_frame_lies_between_gaps_nothing_is_measured(self):
        waveform = breath(1.0)
        waveform = with_gaps(waveform, [(0, 0.4), (0.41, 1.0)])
        for name in ("audio_quality", "snr_quality", "flatness_quality"):
            assert quality(MEASURES[name], waveform) == 0
        assert quality(MEASURES["learned_quality"], waveform) < 0.01
        names = ("flatness", "blind_snr")
        values = RecordingMeasurements(RATE, names).measure(waveform[None])
        assert values.isnan().all()


@pytest.mark.skipif(not CASES.is_dir(), reason="QLUNG_DATA has no cases")
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_real_recording_a_fifth_of_which_is_zero(measure):
    found = [
        quality(measure, *_read(CASES / f"digital_silence_{name}.wav"))
        for name in ("20pct", "none")
    ]
    assert found[0] <= found[1] > 0


def _read(path):
    samples, rate = soundfile.read(path, dtype="float32")
    return torch.from_numpy(samples), rate
