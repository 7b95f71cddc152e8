"""Tests of the quality scores: the formula in a loop, and what must hold.

Authors
 * qlung_plugin contributors
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from hypothesis.extra import numpy as hnp
from scipy.signal import get_window, resample_poly

from qlung_plugin.lobes.quality import (
    AudioQualityScore,
    ClippingScore,
    FlatnessScore,
    SNRScore,
    WeightedQuality,
)

RATE = 8000

# No deadline: the machine may be busy.
WIDE = settings(max_examples=30, deadline=None)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency=440.0, samples=RATE, rate=RATE):
    time = torch.arange(samples, dtype=torch.float64) / rate
    return torch.sin(2 * math.pi * frequency * time).float()


def at_level(waveform, level):
    return waveform * (level / waveform.square().mean().sqrt())


def cycles(count=24, seed=0):
    """Tones in more or less noise, at more or less level, of all lengths."""
    waveforms, lengths = torch.zeros(count, 2 * RATE), []
    for i in range(count):
        samples = 1000 + 600 * i
        share = (i * 7 % count) / count
        mixed = (1 - share) * tone(150 + 30 * i, samples)
        mixed = mixed + share * noise(samples, seed=seed + i)
        waveforms[i, :samples] = at_level(mixed, 0.3 * 0.85**i)
        lengths.append(samples / (2 * RATE))
    return waveforms, torch.tensor(lengths)


def fitted_score(**arguments):
    score = AudioQualityScore(RATE, normalisation="fitted", **arguments)
    score.fit(score.measure(*cycles()))
    return score


def measured_by_loop(
    waveform,
    rate=RATE,
    native_rate=None,
    entropy="frames",
    f_min=50.0,
    f_max=2000.0,
    window_length=25.0,
    hop_length=10.0,
    n_fft=None,
):
    """Entropy and level of one unpadded waveform, or None."""
    waveform = np.asarray(waveform, dtype=np.float64)
    waveform = waveform - (waveform.mean() if len(waveform) else 0)
    if not waveform.any():
        return None
    samples = round(window_length * rate / 1000)
    hop = round(hop_length * rate / 1000)
    if n_fft is None:
        n_fft = 1
        while n_fft < samples:
            n_fft *= 2
    top = min(f_max, rate / 2, 0.45 * (native_rate or math.inf))
    band = [
        k for k in range(n_fft // 2 + 1) if f_min <= k * rate / n_fft <= top
    ]
    padded = np.pad(waveform, (0, max(0, samples - len(waveform))))
    spectra, start = [], 0
    while start + samples <= len(padded):
        segment = padded[start : start + samples] * get_window("hann", samples)
        power = np.abs(np.fft.fft(segment, n_fft)) ** 2
        if power.any():
            spectra.append(power[band])
        start += hop
    if entropy == "spectrum":
        spectra = [np.mean(spectra, axis=0)]
    entropies = []
    for power in spectra:
        shares = power / power.sum()
        value = -sum(p * math.log(p) for p in shares if p > 0)
        entropies.append(value / math.log(len(band)))
    return np.mean(entropies), math.sqrt(np.mean(waveform**2))


def score_by_loop(measurement, alpha=0.7, beta=0.3, ranges=((0, 1), (0, 1))):
    """The formula, for one waveform."""
    if measurement is None:
        return 0.0
    entropy, level = (
        min(max((value - low) / (high - low), 0), 1)
        for value, (low, high) in zip(measurement, ranges)
    )
    return min(max(1 - alpha * entropy + beta * level, 0), 1)


SETTINGS = [
    {},
    {"entropy": "spectrum"},
    {"f_min": 0.0, "f_max": 4000.0},
    {"f_min": 300.0, "f_max": 900.0, "entropy": "spectrum"},
    {"window_length": 64.0, "hop_length": 32.0},
    {"window_length": 20.0, "hop_length": 20.0, "n_fft": 160},
    {"n_fft": 1024},
]


class TestAudioQualityScoreAgainstALoop:
    @pytest.mark.parametrize("arguments", SETTINGS)
    def test_measurements(self, arguments):
        waveforms, lengths = cycles(8)
        score = AudioQualityScore(RATE, **arguments)
        measured = score.measure(waveforms, lengths)
        assert measured.shape == (8, 2) and measured.dtype == torch.float32
        for i, length in enumerate((lengths * 2 * RATE).round().int().tolist()):
            expected = measured_by_loop(waveforms[i, :length], **arguments)
            assert measured[i].tolist() == pytest.approx(expected, abs=2e-4)

    @pytest.mark.parametrize("alpha, beta", [(0.7, 0.3), (2, 1.5)])
    def test_absolute_scores(self, alpha, beta):
        waveforms, _ = cycles(8)
        scores = AudioQualityScore(RATE, alpha, beta)(waveforms[:, :1000])
        expected = [
            score_by_loop(measured_by_loop(w[:1000]), alpha, beta)
            for w in waveforms
        ]
        assert scores.tolist() == pytest.approx(expected, abs=4e-4)

    @pytest.mark.parametrize("percentiles", [(5, 95), (25.0, 60.0)])
    def test_fitted_scores(self, percentiles):
        waveforms, lengths = cycles()
        samples = (lengths * 2 * RATE).round().int().tolist()
        measured = [
            measured_by_loop(waveforms[i, :length])
            for i, length in enumerate(samples)
        ]
        ranges = np.percentile(measured, percentiles, axis=0).T
        score = fitted_score(percentiles=percentiles)
        expected = [score_by_loop(m, ranges=ranges) for m in measured]
        scores = score(waveforms, lengths).tolist()
        assert scores == pytest.approx(expected, abs=2e-3)

    @pytest.mark.parametrize(
        "rates, f_max",
        [
            ([8000, 4000, 2000, 44100], 4000),  # all of them reach less
            ([8000, 4000, 4001, 44100], 1800),  # one reaches just that
            ([8000, 16000, 48000, 44100], 2000),  # none
        ],
    )
    def test_native_rates(self, rates, f_max):
        waveforms = 0.1 * noise(4, 3000)
        score = AudioQualityScore(RATE, f_max=f_max)
        measured = score.measure(waveforms, native_rates=torch.tensor(rates))
        for i, rate in enumerate(rates):
            expected = measured_by_loop(
                waveforms[i], native_rate=rate, f_max=f_max
            )
            assert measured[i].tolist() == pytest.approx(expected, abs=2e-4)

    def test_extremes_of_length(self):
        # A window, less, a few samples, one and none.
        for samples in (200, 199, 50, 7, 1, 0):
            waveforms = 0.1 * noise(2, samples)
            expected = [
                score_by_loop(measured_by_loop(waveform))
                for waveform in waveforms
            ]
            scores = AudioQualityScore(RATE)(waveforms).tolist()
            assert scores == pytest.approx(expected, abs=4e-4)


class TestAudioQualityScore:
    @WIDE
    @given(
        frequency=st.floats(200, 1500),
        level=st.floats(0.003, 0.3),
        seed=st.integers(0, 999),
        entropy=st.sampled_from(["frames", "spectrum"]),
    )
    def test_falls_with_noise_at_constant_level(
        self, frequency, level, seed, entropy
    ):
        clean, hiss = tone(frequency), noise(RATE, seed=seed)
        waveforms = torch.stack(
            [
                at_level(clean + factor * hiss, level)
                for factor in (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
            ]
        )
        scores = AudioQualityScore(RATE, entropy=entropy)(waveforms)
        # The more of one tone's power is at one frequency, the higher it can
        # be: the scores may saturate at 1, but do not rise.
        assert (scores.diff() <= 1e-6).all()
        assert scores[-1] < scores[0] - 0.1

    def test_a_recording_of_a_low_rate_does_not_look_cleaner(self):
        low = at_level(noise(4 * 4000), 0.1)
        upsampled = torch.from_numpy(resample_poly(low.numpy(), 4, 1)).float()
        wide = at_level(noise(len(upsampled), seed=1), 0.1)
        waveforms = torch.stack([upsampled, wide])
        score = AudioQualityScore(16000, f_max=8000.0)

        unknown = score(waveforms)
        assert unknown[0] > unknown[1] + 0.1
        known = score(waveforms, native_rates=torch.tensor([4000, 16000]))
        assert known[0].item() == pytest.approx(known[1].item(), abs=0.03)
        # As it is at its own rate, in the band that it has.
        alone = AudioQualityScore(4000, f_max=1800.0)(low.unsqueeze(0))
        assert known[0].item() == pytest.approx(alone.item(), abs=0.01)

    @pytest.mark.parametrize(
        "arguments, name",
        [
            ({"normalisation": "relative"}, "normalisation"),
            ({"entropy": "mean"}, "entropy"),
            ({"n_fft": 128}, "n_fft=128"),
        ],
    )
    def test_an_unknown_choice_is_named(self, arguments, name):
        with pytest.raises(ValueError, match=name):
            AudioQualityScore(RATE, **arguments)


class TestFitting:
    def test_unfitted_use_is_an_error(self):
        score = AudioQualityScore(RATE, normalisation="fitted")
        assert score.ranges.isnan().all()
        with pytest.raises(RuntimeError, match="not fitted"):
            score(*cycles())
        assert score.measure(*cycles()).isfinite().all()  # what fit needs

    def test_silent_cycles_do_not_count(self):
        score = fitted_score()
        measured = score.measure(*cycles())
        silent = score.measure(torch.zeros(50, 400))
        again = AudioQualityScore(RATE, normalisation="fitted")
        again.fit(torch.cat([silent, measured]))
        assert torch.equal(again.score(measured), score.score(measured))
        assert not score.score(silent).any()

    def test_beyond_the_range_is_its_end(self):
        score = AudioQualityScore(RATE, alpha=0.5, normalisation="fitted")
        score.fit(torch.tensor([[i / 100, i / 1000] for i in range(101)]))
        extremes = torch.tensor(
            [[0.05, 0.095], [0, 1], [0.95, 0.005], [1, 0], [0.5, 0.05]]
        )
        expected = [1.0, 1.0, 0.5, 0.5, 0.5 + 0.25 + 0.15]
        assert score.score(extremes).tolist() == pytest.approx(expected)

    @pytest.mark.parametrize(
        "measurements",
        [
            torch.tensor([[0.5, 0.1]]),
            torch.tensor([[0.5, 0.1], [0.5, 0.2], [0.5, 0.3]]),
            torch.full((3, 2), torch.nan),
        ],
        ids=["one cycle", "equal entropies", "silence"],
    )
    def test_too_little_to_fit_is_an_error(self, measurements):
        score = fitted_score()
        before = score.ranges.clone()
        with pytest.raises(ValueError):
            score.fit(measurements)
        assert torch.equal(score.ranges, before)


SCORES = {
    "absolute": lambda: AudioQualityScore(RATE),
    "spectrum": lambda: AudioQualityScore(RATE, entropy="spectrum"),
    "fitted": fitted_score,
    "flatness": lambda: FlatnessScore(RATE),
    "snr": lambda: SNRScore(RATE),
    "clipping": lambda: ClippingScore(RATE),
}


@pytest.fixture(scope="module", params=SCORES.values(), ids=SCORES)
def score(request):
    return request.param()


class TestEveryScore:
    @WIDE
    @given(
        hnp.arrays(
            np.float32,
            st.tuples(st.integers(1, 3), st.integers(0, 300)),
            elements=st.floats(-1e6, 1e6, width=32),
        ),
        st.data(),
    )
    def test_lies_between_0_and_1(self, score, waveforms, data):
        batch = len(waveforms)
        lengths = data.draw(
            st.lists(st.floats(0, 1, width=32), min_size=batch, max_size=batch)
        )
        rates = data.draw(
            st.lists(
                st.sampled_from([4000, 8000, 44100]),
                min_size=batch,
                max_size=batch,
            )
        )
        scores = score(
            torch.from_numpy(waveforms),
            torch.tensor(lengths),
            torch.tensor(rates),
        )
        assert ((scores >= 0) & (scores <= 1)).all()

    @WIDE
    @given(
        st.integers(0, 900),
        st.integers(0, 900),
        st.sampled_from([0.0, 1.0, -1e20, math.nan, math.inf]),
    )
    def test_padding_does_not_count(self, score, samples, padding, value):
        alone = 0.2 * noise(1, samples, seed=samples).clamp(-2, 2)
        expected = score(alone)
        padded = torch.nn.functional.pad(alone, (0, padding), value=value)
        if samples + padding == 0:
            return
        share = torch.tensor([samples / (samples + padding)])
        torch.testing.assert_close(score(padded, share), expected)

    @pytest.mark.parametrize("offset", [-0.4, 0.01, 0.4])
    def test_a_constant_offset_is_removed(self, score, offset):
        waveforms = 0.5 * cycles(6)[0][:, :1000]
        if isinstance(score, ClippingScore):
            waveforms = waveforms.clamp(-0.1, 0.1)
        torch.testing.assert_close(
            score(waveforms + offset), score(waveforms), rtol=0, atol=2e-3
        )

    def test_silence_scores_nothing(self, score):
        waveforms = torch.zeros(4, 1000)
        waveforms[1] = 0.7  # an offset is no sound
        waveforms[2] = 1e-9 * noise(1000)
        waveforms[3, 500:] = noise(500)  # in the padding
        lengths = torch.tensor([1.0, 1.0, 1.0, 0.5])
        assert score(waveforms, lengths).tolist() == [0, 0, 0, 0]
        assert score.measure(waveforms, lengths).isnan().all()


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("position", [0, 299])
def test_a_sample_that_is_no_number_is_an_error(value, position):
    waveforms = noise(2, 600)
    waveforms[1, position] = value
    with pytest.raises(ValueError, match="NaN"):
        ClippingScore(RATE)(waveforms, torch.tensor([1.0, 0.5]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_whatever_the_precision_it_is_computed_in_float32(dtype):
    score, waveforms = AudioQualityScore(RATE), (0.1 * noise(2, 900)).to(dtype)
    expected = score(waveforms.float())
    with torch.autocast("cpu", torch.bfloat16):
        for scores in (score(waveforms), score(waveforms.float())):
            assert scores.dtype == torch.float32
            assert torch.equal(scores, expected)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("waveforms", [torch.zeros(500)]),
        ("relative_lengths", [torch.zeros(2, 500), torch.ones(2, 1)]),
        ("relative_lengths", [torch.zeros(2, 9), torch.tensor([1.1, 1])]),
        ("relative_lengths", [torch.zeros(2, 9), torch.tensor([-0.1, 1])]),
        ("relative_lengths", [torch.zeros(2, 9), torch.tensor([math.nan, 1])]),
        ("native_rates", [torch.zeros(2, 500), None, torch.ones(3)]),
    ],
)
def test_a_wrong_argument_is_named(name, arguments):
    with pytest.raises(ValueError, match=name):
        ClippingScore(RATE)(*arguments)


class TestTheOthers:
    @pytest.mark.parametrize("snr_range", [(-10.0, 30.0), (0.0, 20.0)])
    def test_snr_is_a_place_in_its_range(self, snr_range):
        score = SNRScore(RATE, snr_range=snr_range)
        low, high = snr_range
        measured = torch.tensor(
            [low - 5, low, (low + high) / 2, high, high + 5]
        )
        scores = score.score(measured.unsqueeze(1)).tolist()
        assert scores == pytest.approx([0, 0, 0.5, 1, 1])

    def test_clipping_falls_with_the_gain(self):
        gains = torch.tensor([0.9, 1.2, 2.0, 8.0]).unsqueeze(1)
        waveforms = (gains * tone(100)).clamp(-1, 1)
        scores = ClippingScore(RATE)(waveforms)
        assert scores[0] > 0.97
        shares = [1 - 2 / math.pi * math.asin(1 / g) for g in (1.2, 2.0, 8.0)]
        expected = [1 - share for share in shares]
        assert scores[1:].tolist() == pytest.approx(expected, abs=0.02)


class TestCheckFitted:
    @pytest.mark.parametrize(
        "ranges, message",
        [
            ([[math.nan] * 2] * 2, "^ranges is NaN: .* is to be fitted"),
            ([[0.2, 0.8], [math.nan, 0.1]], "^ranges has rms from nan to 0.1"),
            ([[0.2, 0.2], [0.0, 0.1]], "spectral_entropy from 0.2 to 0.2"),
            ([[0.2, 1.5], [0.0, 0.1]], "spectral_entropy .*between 0 and 1"),
            ([[0.2, 0.8], [-1.0, 0.1]], "rms from -1 to 0.1"),
        ],
    )
    def test_no_range_of_a_training_set_is_named(self, ranges, message):
        score = AudioQualityScore(RATE, normalisation="fitted")
        score.ranges.copy_(torch.tensor(ranges))
        with pytest.raises(ValueError, match=message):
            score.check_fitted()
        mean = WeightedQuality([SNRScore(RATE), score], [1, 1])
        with pytest.raises(ValueError, match=r"^measures\.1\.ranges"):
            mean.check_fitted()
