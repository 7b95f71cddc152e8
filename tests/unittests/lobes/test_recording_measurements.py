"""Tests of the measurements of a recording, each by a signal of known value.

Authors
 * qlung_plugin contributors
"""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, resample, resample_poly, sosfilt
from scipy.special import digamma

from qlung_plugin.lobes.quality import MEASUREMENTS, RecordingMeasurements

# No deadline: the machine may be busy.
WIDE = settings(max_examples=15, deadline=None)

NAMES = tuple(MEASUREMENTS)

# Of the analysis: in Hz and samples, but for the last, per second.
RATE, N_FFT, HOP = 8000, 512, 128
FRAME_RATE = 62.5


def bands_of(prefix):
    """Those that the names tell, in Hz."""
    found = (re.fullmatch(rf"{prefix}_(\d+)_(\d+)", name) for name in NAMES)
    return [tuple(map(int, match.groups())) for match in found if match]


BANDS, COURSES = bands_of("share"), bands_of("breathing")
SOUND, ABOVE_HEART = (50, 1800), (200, 1800)
TILT = ((200, 800), (1000, 1500))
LEVEL_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

# Of a tone on a bin of Hann's window: in the bin and in either neighbour.
LEAKAGE = {-1: 1 / 6, 0: 2 / 3, 1: 1 / 6}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bins_of(band):
    """The bins of a band, which does not include its upper end."""
    low, high = band
    return [k for k in range(N_FFT // 2 + 1) if low <= k * RATE / N_FFT < high]


def clock(seconds):
    return torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE


def carrier(k, time, decibels=0.0):
    """A tone on a bin, whose level follows a course in dB."""
    phase = 2 * math.pi * k * RATE / N_FFT * time + k * k
    return 10 ** (torch.as_tensor(decibels) / 20) * torch.sin(phase)


# One tone in the middle of every band, all of different levels, in dB.
COMB = {
    bins_of(b)[len(bins_of(b)) // 2]: 3 * i % 8 for i, b in enumerate(BANDS)
}


def comb(time, decibels=0.0):
    return 1e-3 * sum(
        carrier(k, time, level + decibels) for k, level in COMB.items()
    )


def comb_share(band):
    """Of the comb's power that lies in a band."""
    powers = {k: 10 ** (level / 10) for k, level in COMB.items()}
    inside = sum(
        power * share
        for k, power in powers.items()
        for offset, share in LEAKAGE.items()
        if k + offset in bins_of(band)
    )
    return inside / sum(powers.values())


def named(prefix, bands, values):
    return {f"{prefix}_{a}_{b}": v for (a, b), v in zip(bands, values)}


def step():
    """The comb, for three fifths of the time 20 dB louder than else."""
    time = clock(20)
    loud = torch.where(time < 12, 20.0, 0.0)
    shares = [10 * math.log10(comb_share(band)) for band in BANDS]
    low, high = (comb_share(band) for band in TILT)
    noise_power = 1 / -math.log(0.8)  # from the quantile, which is quiet
    snr = (0.6 * 100 + 0.4 - noise_power) / noise_power
    expected = {
        **named("share", BANDS, shares),
        **named("spread", BANDS, [20 * math.sqrt(0.6 * 0.4)] * len(BANDS)),
        "tilt": 10 * math.log10(high / low),
        "blind_snr": 10 * math.log10(snr),
    }
    return comb(time, loud), expected, 0.05


def ramp():
    """The comb, whose level rises by 40 dB, as much in every second."""
    time = clock(20)
    # The mean of 10 ** (4 x) between 0 and 1, in dB.
    mean = 10 * math.log10((1e4 - 1) / (4 * math.log(10)))
    expected = {
        f"level_{round(100 * share)}": 40 * share - mean
        for share in LEVEL_SHARES
    }
    return comb(time, 2 * time), expected, 0.15


def rise():
    """The comb, rising as steeply, for its changes from frame to frame."""
    return comb(clock(20), 2 * clock(20)), {"flux": 2 / FRAME_RATE}, 1e-3


def lines():
    """White noise and two tones, the spectrum of which is known."""
    level, time = 0.1, clock(40)
    tones = {6: 0.05, 40: 0.02}
    waveform = level * noise(len(time)).double()
    power = np.full(N_FFT // 2 + 1, level**2)
    for k, amplitude in tones.items():
        waveform = waveform + amplitude * carrier(k, time)
        for offset, share in LEAKAGE.items():
            power[k + offset] += share * amplitude**2 * N_FFT / 4
    expected = {}
    for suffix, band in (("", SOUND), ("_above_heart", ABOVE_HEART)):
        inside = power[bins_of(band)]
        flatness = np.exp(np.mean(np.log(inside))) / inside.mean()
        shares = inside / inside.sum()
        entropy = -np.sum(shares * np.log(shares)) / math.log(len(shares))
        expected["flatness" + suffix] = math.log(flatness)
        expected["entropy" + suffix] = entropy
    return waveform, expected, 0.01


def halves():
    """White noise, then a tone: frames of two entropies."""
    time = clock(10)
    waveform = torch.cat([noise(len(time)).double(), carrier(64, time)])
    count = len(bins_of(ABOVE_HEART))
    shares = np.array(list(LEAKAGE.values()))
    of_tone = -np.sum(shares * np.log(shares)) / math.log(count)
    # The shares of exponentially distributed powers, in the mean.
    of_noise = (digamma(count + 1) - digamma(2)) / math.log(count)
    expected = {
        "entropy_in_frames": (of_noise + of_tone) / 2,
        "entropy_spread": (of_noise - of_tone) / 2,
    }
    return waveform, expected, 0.01


def contact():
    """A fifth of the time nearly nothing, a tenth of it far louder."""
    time = clock(20)
    decibels = torch.zeros(len(time))
    decibels[(time > 5) & (time < 9)] = -40
    decibels[(time > 14) & (time < 16)] = 20
    return comb(time, decibels), {"faint_share": 0.2, "burst_share": 0.1}, 5e-3


# By bin: depth in dB, breaths per second and phase in degrees.
BREATHS = {
    4: (6.0, 0.5, 0),
    10: (3.0, 0.3, 20),
    16: (4.0, 0.8, 0),
    22: (5.0, 0.5, 60),
    29: (7.0, 0.8, 120),
    45: (2.0, 1.7, 0),
}


def breath(k, time):
    depth, frequency, degrees = BREATHS[k]
    return depth * np.sin(
        2 * math.pi * frequency * time + math.radians(degrees)
    )


def smoothed(course, half):
    """By the Gaussian whose response is a half at a frequency."""
    width = math.sqrt(2 * math.log(2)) / (2 * math.pi * half) * FRAME_RATE
    truncate = int(3 * width) / width
    sums = [
        gaussian_filter1d(values, width, mode="constant", truncate=truncate)
        for values in (course, np.ones_like(course))
    ]
    return sums[0] / sums[1]


def repetition(course):
    """Highest peak over the lowest valley before it, by a loop over lags."""
    course = course - course.mean()
    count, correlations = len(course), []
    for lag in range(int(4 * FRAME_RATE) + 1):
        early, late = course[: count - lag], course[lag:]
        scale = math.sqrt(np.sum(early**2) * np.sum(late**2))
        correlations.append(np.sum(early * late) / scale)
    return max(
        correlations[lag] - min(correlations[: lag + 1])
        for lag in range(math.ceil(0.6 * FRAME_RATE), len(correlations))
    )


def breathing():
    """Tones that breathe, each at its own pace."""
    time = clock(40)
    waveform = sum(
        0.01 * carrier(k, time, torch.from_numpy(breath(k, time.numpy())))
        for k in BREATHS
    )
    count = (len(time) - N_FFT) // HOP + 1
    centres = (HOP * np.arange(count) + N_FFT / 2) / RATE
    expected = {
        # Two pairs of one pace each, a sixth and a third of a breath apart.
        "correlation_heart_breathing": math.cos(math.radians(60)),
        "correlation_breathing": math.cos(math.radians(120)),
    }
    for band in COURSES:
        power = sum(
            share * 10 ** (breath(k, centres) / 10)
            for k in BREATHS
            for offset, share in LEAKAGE.items()
            if k + offset in bins_of(band)
        )
        level = 10 * np.log10(power)
        fast, slow = smoothed(level, 1.7), smoothed(level, 0.25)
        slow_part, fast_part = np.var(fast - slow), np.var(level - fast)
        for prefix, value in (
            ("breathing", slow_part / (slow_part + fast_part)),
            ("breathing_depth", math.sqrt(slow_part)),
            ("periodicity", repetition(fast - slow)),
        ):
            expected.update(named(prefix, [band], [value]))
    return waveform, expected, 0.02


def sine():
    expected = {"crest_factor": 10 * math.log10(2), "kurtosis": math.log(1.5)}
    return 0.5 * carrier(4, clock(2)), expected, 0.01


def clipped():
    """A sine cut off at a half, a third of the time from its zeros."""
    waveform = torch.sin(2 * math.pi * 50.3 * clock(2)).clamp(-0.5, 0.5)
    return waveform, {"clipping": 2 / 3}, 0.02


def hum():
    """Lines at and around 60 Hz, the first 20 dB above the others."""
    offsets = {0: 10.0, **dict.fromkeys((-8, -6, -4, 4, 6, 8), 1.0)}
    waveform = sum(
        level * torch.sin(2 * math.pi * (60 + offset) * clock(4))
        for offset, level in offsets.items()
    )
    # Those around 50 Hz are no fewer: 52, 54 and 56 Hz beside 50.
    return 0.01 * waveform, {"mains_hum": 20.0}, 0.05


SIGNALS = (
    *(step, ramp, rise, lines, halves, contact, breathing),
    *(sine, clipped, hum),
)


@pytest.fixture(scope="module")
def known():
    """By name: what was measured, what it is, and how near it must be."""
    everything, found = RecordingMeasurements(RATE), {}
    for signal in SIGNALS:
        waveform, expected, tolerance = signal()
        values = everything.measure(waveform.float().unsqueeze(0))[0].tolist()
        measured = dict(zip(NAMES, values))
        for name, value in expected.items():
            found[name] = measured[name], value, tolerance
    return found


class TestKnownValues:
    @pytest.mark.parametrize("name", NAMES)
    def test_is_found(self, known, name):
        measured, value, tolerance = known[name]
        assert measured == pytest.approx(value, abs=tolerance)

    def test_are_not_all_alike(self, known):
        # Or a measurement could be that of another band.
        for prefix in ("share", "breathing_depth", "periodicity", "level"):
            values = [v for n, (_, v, _) in known.items() if prefix in n]
            assert max(values) - min(values) > 0.1


def recordings(seconds=3.0, count=4):
    """Noises that breathe, of different colour, pace and level."""
    time = clock(seconds).float()
    waveforms = 0.02 * noise(count, len(time))
    for i, waveform in enumerate(waveforms):
        swell = torch.sin(math.pi * (0.3 + 0.1 * i) * time).square()
        waveforms[i] = (0.1 + swell) * (waveform + 0.3 * i * waveform.roll(1))
    return waveforms / (1 + torch.arange(count).unsqueeze(1))


@pytest.fixture(scope="module")
def everything():
    return RecordingMeasurements(RATE)


def assert_close(measured, expected, **tolerances):
    torch.testing.assert_close(
        measured,
        expected,
        equal_nan=True,
        **{"rtol": 1e-3, "atol": 1e-3, **tolerances},
    )


def missing(everything, *arguments):
    """Names of what is missing of one waveform."""
    values = everything.measure(*arguments)[0]
    assert not values.isinf().any()
    return {n for n, v in zip(NAMES, values) if v.isnan()}


def of_bands(ends_above):
    """Names of measurements of single bands that end above a frequency."""
    return {
        name
        for name in NAMES
        if name.split("_")[0] in ("share", "spread", "breathing", "periodicity")
        and float(name.split("_")[-1]) > ends_above
    }


RHYTHM = {name for name in NAMES if name.startswith("periodicity")}


class TestMissing:
    def test_nothing_of_a_whole_recording(self, everything):
        assert not missing(everything, recordings())

    @pytest.mark.parametrize("rate", [4000, 6000.0, 44100])
    def test_bands_that_a_recording_cannot_have(self, everything, rate):
        rates = torch.full((4,), rate)
        found = missing(everything, recordings(), None, rates)
        assert found == of_bands(0.45 * rate)

    def test_at_a_low_rate_of_the_waveforms(self):
        waveforms = torch.from_numpy(
            resample_poly(recordings().numpy(), 1, 2, axis=1)
        )
        low, rates = RecordingMeasurements(4000), torch.full((4,), 44100)
        for native in (None, rates):  # that it was recorded at more is no help
            found = missing(low, waveforms.float(), None, native)
            assert found == of_bands(1800)

    def test_every_measurement_of_a_band_that_is_not_there(self, everything):
        # Lower than devices have it: nothing is made up, not even a share of
        # the time.
        rates = torch.full((4,), 2000)
        found = missing(everything, recordings(), None, rates)
        levels = {name for name in NAMES if name.startswith("level")}
        others = {"tilt", "faint_share", "burst_share"}
        assert found == of_bands(900) | levels | others

    def test_what_a_low_rate_leaves_is_the_same(self, everything):
        # A recording at 4 kHz, with what one at 8 kHz has above filtered out.
        waveforms = torch.from_numpy(
            resample_poly(
                resample_poly(recordings().numpy(), 1, 2, axis=1), 2, 1, axis=1
            )
        ).float()
        measured = everything.measure(waveforms, None, torch.full((4,), 4000))
        expected = everything.measure(waveforms)
        there = ~measured.isnan()
        assert_close(measured[there], expected[there])

    @pytest.mark.parametrize(
        "seconds, names",
        [
            (0.05, RHYTHM | {"mains_hum", "flux"}),  # a single frame
            (0.99, RHYTHM | {"mains_hum"}),
            (1.2, set()),
        ],
    )
    def test_of_short_cycles(self, everything, seconds, names):
        assert missing(everything, recordings(seconds)) == names

    def test_a_recording_that_is_silent_for_long(self, everything):
        # Digital silence has no spectrum: what is left is measured.
        waveforms = recordings(4.0)
        waveforms[:, RATE : 2 * RATE] = 0
        assert everything.measure(waveforms).isfinite().all()


class TestNames:
    @WIDE
    @given(
        st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
        st.integers(0, 3),
    )
    def test_choose_columns(self, everything, names, row):
        waveforms = recordings(1.5)[row : row + 1]
        chosen = RecordingMeasurements(RATE, names)
        assert chosen.names == tuple(names)
        values = everything.measure(waveforms)
        columns = [NAMES.index(name) for name in names]
        assert_close(chosen.measure(waveforms), values[:, columns])

    @pytest.mark.parametrize(
        "names, wrong",
        [
            (["flatness", "loudness"], "loudness"),
            (["flatness", "tilt", "flatness"], "flatness, tilt, flatness"),
            ([], "not $"),
        ],
    )
    def test_that_are_wrong_are_named(self, names, wrong):
        with pytest.raises(ValueError, match=wrong):
            RecordingMeasurements(RATE, names)


class TestInvariance:
    @WIDE
    @given(
        st.integers(300, 12000),
        st.integers(0, 4000),
        st.sampled_from([0.0, 1.0, -1e20, math.nan, math.inf]),
    )
    def test_padding_does_not_count(self, everything, samples, padding, value):
        alone = recordings()[:1, :samples]
        padded = torch.nn.functional.pad(alone, (0, padding), value=value)
        share = torch.tensor([samples / (samples + padding)])
        assert_close(
            everything.measure(padded, share),
            everything.measure(alone),
            atol=5e-3,
        )

    def test_of_a_batch_is_that_of_its_rows(self, everything):
        waveforms, lengths = recordings(), torch.tensor([1.0, 0.8, 0.3, 0.1])
        rates = torch.tensor([8000, 4000, 44100, 6000])
        alone = [
            everything.measure(
                waveforms[i : i + 1], lengths[i : i + 1], rates[i : i + 1]
            )
            for i in range(4)
        ]
        assert_close(
            everything.measure(waveforms, lengths, rates), torch.cat(alone)
        )

    @pytest.mark.parametrize("gain", [0.01, -20.0])
    def test_a_gain_changes_nothing(self, everything, gain):
        waveforms = recordings()
        assert_close(
            everything.measure(gain * waveforms), everything.measure(waveforms)
        )

    @pytest.mark.parametrize("offset", [-0.4, 0.1])
    def test_an_offset_changes_nothing(self, everything, offset):
        waveforms = recordings()
        assert_close(
            everything.measure(waveforms + offset),
            everything.measure(waveforms),
            atol=1e-2,
        )

    @pytest.mark.parametrize("rate", [16000, 24000])
    def test_the_rate_of_the_waveforms_hardly_matters(self, everything, rate):
        # Sounds as low as those of the chest, and a faint background.
        lowpass = butter(6, 1500, fs=RATE, output="sos")
        waveforms = sosfilt(lowpass, recordings().double().numpy(), axis=1)
        waveforms += 1e-4 * noise(4, 3 * RATE, seed=3).numpy()
        samples = waveforms.shape[1] * rate // RATE
        upsampled = torch.from_numpy(resample(waveforms, samples, axis=1))
        measured = RecordingMeasurements(rate).measure(upsampled)
        expected = everything.measure(torch.from_numpy(waveforms))
        # Where the resampler's transition begins, and peaks between samples.
        loose = {"share_3000_3600": 1.2, "crest_factor": 0.3}
        for column, name in enumerate(NAMES):
            torch.testing.assert_close(
                measured[:, column],
                expected[:, column],
                rtol=0,
                atol=loose.get(name, 0.03),
            )

    def test_a_higher_rate_does_not_widen_the_band(self):
        # Nor does what lies above 4 kHz, but for what has no spectrum.
        samples = 3 * 16000
        low = resample(recordings().numpy(), samples, axis=1)
        high = sosfilt(
            butter(8, 6000, "highpass", fs=16000, output="sos"),
            0.01 * noise(4, samples).numpy(),
        )
        names = [n for n in NAMES if n not in ("crest_factor", "kurtosis")]
        wide = RecordingMeasurements(16000, names)
        assert_close(
            wide.measure(torch.from_numpy(low + high)),
            wide.measure(torch.from_numpy(low)),
            atol=0.02,
        )
