"""What every measurement of quality promises.

Authors
 * qlung_plugin contributors
"""

import math

import pytest
import torch
from hypothesis import (
    given,
    strategies as st,
)

from qlung_plugin.processing.quality import (
    band_levels,
    band_matrix,
    band_shares,
    blind_snr,
    breathing_course,
    breathing_periodicity,
    breathing_share,
    burst_share,
    clipping_ratio,
    crest_factor,
    faint_share,
    level_correlation,
    log_kurtosis,
    mains_hum,
    rms_level,
    sample_mask,
    spectral_entropy,
    spectral_flatness,
    spectral_flux,
    spread_over_frames,
)
from tests.unittests.processing.signals import (
    HOP,
    LENGTHS,
    N_FFT,
    RATE,
    WIDE,
    full,
    noise,
    spectrum,
)

BANDS = band_matrix([(0, 300), (300, 900), (900, 4000)], N_FFT, RATE)
FRAME_RATE = RATE / HOP


def of_spectrum(measure, *arguments):
    """A measurement of power, frames and bins as one of waveforms."""
    return lambda waveforms, lengths: measure(
        *spectrum(waveforms, lengths=lengths), *arguments
    )


def of_levels(measure):
    """A measurement of the levels in bands."""

    def measure_waveforms(waveforms, lengths):
        power, frames, _ = spectrum(waveforms, lengths=lengths)
        return measure(band_levels(power, frames, BANDS), frames)

    return measure_waveforms


def course_of(levels, frames):
    return breathing_course(levels, frames, FRAME_RATE)


MEASURES = {
    "level": rms_level,
    "clipping": clipping_ratio,
    "crest factor": crest_factor,
    "kurtosis": log_kurtosis,
    "hum": lambda w, n: mains_hum(w, n, 500),
    "entropy": of_spectrum(spectral_entropy),
    "mean entropy": of_spectrum(spectral_entropy, "spectrum"),
    "flatness": of_spectrum(spectral_flatness),
    "snr": of_spectrum(blind_snr),
    "shares": of_spectrum(lambda p, f, _: band_shares(p, f, BANDS)),
    "spread": of_levels(spread_over_frames),
    "breathing": of_levels(lambda x, f: breathing_share(*course_of(x, f), f)),
    "periodicity": of_levels(
        lambda x, f: breathing_periodicity(course_of(x, f)[0], f, FRAME_RATE)
    ),
    "flux": of_levels(spectral_flux),
    "correlation": of_levels(
        lambda x, f: level_correlation(x[..., 0], x[..., 1], f)
    ),
    "faint": of_levels(lambda x, f: faint_share(x[..., 0], f)),
    "burst": of_levels(lambda x, f: burst_share(x[..., 0], f)),
}
# What these are of silence; all others are missing.
OF_SILENCE = {"level": 0.0, "clipping": 0.0}


def breaths(batch, samples, seed=0):
    """Noise that breathes once a second."""
    time = torch.arange(samples) / RATE
    swell = 0.1 + torch.sin(math.pi * time).square()
    return swell * noise(batch, samples, seed=seed)


def assert_same(values, expected):
    torch.testing.assert_close(
        values, expected, rtol=1e-3, atol=1e-3, equal_nan=True
    )


@pytest.mark.parametrize(("name", "measure"), MEASURES.items(), ids=MEASURES)
class TestEveryMeasure:
    @WIDE
    @given(
        st.integers(1, 900),
        st.integers(0, 700),
        st.sampled_from([0.0, 1.0, -1e30, math.nan, math.inf]),
        st.integers(0, 1000),
    )
    def test_padding_does_not_count(
        self, name, measure, samples, padding, value, seed
    ):
        waveforms = breaths(1, samples, seed).clamp(-1.5, 1.5)
        padded = torch.nn.functional.pad(waveforms, (0, padding), value=value)
        lengths = full(waveforms)
        assert_same(measure(padded, lengths), measure(waveforms, lengths))

    def test_of_a_batch_is_that_of_its_rows(self, name, measure):
        lengths = torch.cat([LENGTHS, torch.tensor([3 * RATE])])
        waveforms = breaths(len(lengths), 3 * RATE)
        waveforms[~sample_mask(waveforms, lengths)] = math.nan
        alone = [
            measure(row[None], length[None])
            for row, length in zip(waveforms, lengths)
        ]
        assert_same(measure(waveforms, lengths), torch.cat(alone))

    @pytest.mark.parametrize("gain", [-1.0, 1e-4, 1e4])
    def test_a_gain_changes_nothing(self, name, measure, gain):
        if name == "level":
            pytest.skip("it is the gain")
        waveforms = breaths(4, 2 * RATE)
        lengths = torch.tensor([2 * RATE, RATE, 900, 300])
        expected = measure(waveforms, lengths)
        assert_same(measure(gain * waveforms, lengths), expected)

    def test_of_silence_and_nothing(self, name, measure):
        waveforms = torch.stack([torch.zeros(2 * RATE), *breaths(2, 2 * RATE)])
        lengths = torch.tensor([2 * RATE, 0, 2 * RATE])
        silence, nothing, breath = measure(waveforms, lengths)
        assert breath.isfinite().all()
        expected = OF_SILENCE.get(name, math.nan)
        for value in (silence, nothing):
            assert_same(value, torch.full_like(value, expected))

    def test_of_no_waveform_is_nothing(self, name, measure):
        for samples in (0, 50, 900):
            none = torch.zeros(0, samples)
            assert len(measure(none, full(none))) == 0
