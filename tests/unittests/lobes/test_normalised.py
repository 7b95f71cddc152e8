"""Tests of features that are normalised by the recording.

Authors
 * qlung_plugin contributors
"""

import math

import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.signal import resample_poly

from qlung_plugin.dataio.cycles import (
    CycleFeatures,
    CycleResampler,
    FixedLength,
    measure_recording,
)
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.lobes.features import (
    ASTFeatures,
    CLAPFeatures,
    EfficientATFeatures,
    MelBand,
    NormalisedFeatures,
    RecordingLevel,
)
from qlung_plugin.lobes.models.efficientat import EfficientAT
from qlung_plugin.nnet.classifiers import LinearClassifier

RATE = 32000
FRONT_ENDS = [EfficientATFeatures, ASTFeatures, CLAPFeatures]


def noise(*shape, seed=0):
    return 0.1 * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed)
    )


def band_noise(seconds, rate, low=200, high=1900, seed=0):
    """Noise of a band, by its spectrum."""
    sound = noise(round(seconds * rate), seed=seed).double()
    spectrum = torch.fft.rfft(sound)
    frequencies = torch.fft.rfftfreq(len(sound), 1 / rate)
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    return torch.fft.irfft(spectrum, len(sound)).float()


def all_of_it(**arguments):
    return NormalisedFeatures(
        **{
            "log_mel": EfficientATFeatures(),
            "level": RecordingLevel(),
            "band": MelBand(),
            "spectral_mean": True,
            **arguments,
        }
    ).eval()


# --- each component -----------------------------------------------------------


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_without_options_nothing_is_changed(front_end):
    log_mel = front_end()
    plain = NormalisedFeatures(log_mel)
    waveforms = noise(2, log_mel.sample_rate)
    assert plain.recording_reference is None
    assert torch.equal(plain(waveforms), log_mel(waveforms))
    reference = plain.reference([waveforms[0]], RATE).expand(2, -1)
    assert torch.equal(plain(waveforms, reference), log_mel(waveforms))


@pytest.mark.parametrize("level", [1e-4, 0.05, 3.0])
def test_level_of_a_tone(level):
    """RMS of a tone is its amplitude by the square root of two."""
    time = torch.arange(30 * 8000) / 8000
    tone = level * torch.sin(2 * math.pi * 500 * time)
    hum = 5 * level * torch.sin(2 * math.pi * 50 * time)
    features = all_of_it(level=RecordingLevel(rms_db=-26.0))
    gain = features.reference([tone + hum], 8000)[0]
    expected = 10 ** (-26 / 20) / (level / math.sqrt(2))
    assert gain.item() == pytest.approx(expected, rel=1e-3)


def test_features_by_hand():
    """Of a recording in one piece, and a cycle of it."""
    features = all_of_it()
    recording, log_mel = noise(9 * RATE), features.log_mel
    gain = 0.1 / features.level.power(recording[None], RATE).sqrt()
    mean = log_mel(gain * recording[None]).mean(dim=1)
    reference = features.reference([recording], RATE)
    torch.testing.assert_close(reference, torch.cat([gain, mean[0]]))

    cycle = recording[RATE : 3 * RATE]
    expected = log_mel(gain * cycle[None]) - mean
    centres = log_mel.band_frequencies()
    for band, centre in enumerate(centres.tolist()):
        if not 150 <= centre <= 2000:
            expected[:, :, band] = 0
    answer = features(cycle[None], reference[None])
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


def test_pieces_count_by_their_lengths():
    """A recording of 24 s: two pieces of 10 s, and a rest."""
    features = all_of_it()
    recording = torch.cat([noise(10 * RATE), 9 * noise(14 * RATE, seed=1)])
    pieces = recording.split(10 * RATE)
    powers = [features.level.power(p[None], RATE).item() for p in pieces]
    power = (10 * powers[0] + 10 * powers[1] + 4 * powers[2]) / 24
    gain = 0.1 / math.sqrt(power)
    means = [features.log_mel(gain * p[None])[0].mean(0) for p in pieces]
    mean = (10 * means[0] + 10 * means[1] + 4 * means[2]) / 24
    reference = features.reference([recording], RATE)
    expected = torch.cat([torch.tensor([gain]), mean])
    torch.testing.assert_close(reference, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_mel_bands_of_every_front_end(front_end):
    """A tone is the loudest in the bands that are near it."""
    log_mel = front_end()
    frequencies = log_mel.band_frequencies()
    assert len(frequencies) == log_mel.n_mels
    known = frequencies[~frequencies.isnan()]
    assert (known.diff() >= 0).all()
    time = torch.arange(log_mel.sample_rate) / log_mel.sample_rate
    for tone in (300, 1000, 1900):
        heard = log_mel(torch.sin(2 * math.pi * tone * time)[None])[0]
        loudest = frequencies[heard.mean(dim=0).argmax()].item()
        assert abs(loudest - tone) < log_mel.sample_rate / log_mel.n_fft
    kept = MelBand(500.0, 1000.0).kept(log_mel)
    assert (frequencies[kept] >= 500).all() and 3 < kept.sum() < len(kept) / 2


def test_bands_that_are_none():
    for band in (RecordingLevel, MelBand):
        with pytest.raises(ValueError, match=f"{band.__name__}: f_min"):
            band(f_min=2000.0, f_max=150.0)
    with pytest.raises(ValueError, match="no mel band of EfficientAT.* 15500"):
        all_of_it(band=MelBand(15500.0, 16000.0))
    with pytest.raises(ValueError, match="sample_rate.* not a Identity"):
        NormalisedFeatures(torch.nn.Identity(), spectral_mean=True)
    with pytest.raises(ValueError, match="band: .* not a Identity"):
        NormalisedFeatures(torch.nn.Identity(), band=MelBand())


# --- recordings ---------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.05, 0.7, 12.0])
def test_digital_silence_changes_no_reference(seconds):
    recording = noise(round(seconds * 8000))
    features = all_of_it()
    reference = features.reference([recording], 8000)
    longer = torch.cat([recording, torch.zeros(8000)])
    assert torch.equal(features.reference([longer], 8000), reference)


def test_nothing_but_silence_is_finite():
    features = all_of_it()
    reference = features.reference([torch.zeros(8000)], 8000)
    assert reference[0] == 1
    waveforms = torch.zeros(1, RATE)
    assert features(waveforms, reference[None]).abs().max() < 1e-5
    assert features(waveforms).abs().max() < 1e-5


def test_waveform_of_its_own():
    """As a recording that is the waveform; gaps of it left out of both."""
    features = all_of_it()
    waveforms = torch.stack([noise(8 * RATE), 30 * noise(8 * RATE, seed=1)])
    waveforms[1, RATE : 3 * RATE] = 0
    references = torch.stack([features.reference([w], RATE) for w in waveforms])
    expected = features(waveforms, references)
    difference = (features(waveforms) - expected).abs()
    assert difference.max() < 0.02
    nan = torch.full_like(references, math.nan)
    assert torch.equal(
        features(waveforms, nan, partial=True), features(waveforms)
    )
    nan[:, 0] = references[:, 0]
    answer = features(waveforms, nan, partial=True)
    assert (answer - expected).abs().max() < 0.02


# --- whole models -------------------------------------------------------------


def make_classify(**arguments):
    """A function from a recording at a rate to the probabilities of a cycle."""
    torch.manual_seed(0)
    cycle_features = CycleFeatures(
        CycleResampler(RATE), FixedLength(RATE, 2.0), all_of_it(**arguments)
    )
    model = torch.nn.Sequential(
        EfficientAT(width_mult=0.1, batch_norm_momentum=1.0),
        LinearClassifier(96, 4),
    )

    @torch.no_grad()
    def classify(recording, rate, start=1.0, end=3.0):
        reference = None
        if cycle_features.recording_reference is not None:
            reference = cycle_features.recording_reference(recording, rate)
        cycle = recording[round(start * rate) : round(end * rate)]
        features = cycle_features(cycle, rate, reference).float()
        return torch.softmax(model(features[None]).logits[0], dim=-1)

    # With the statistics of its features, it tells one sound from another.
    swell = torch.linspace(-1, 1, 2 * RATE)
    sounds = [
        10 ** (-i / 4) * swell.abs() ** i * noise(2 * RATE, seed=i)
        for i in range(12)
    ]
    with torch.no_grad():
        model(torch.stack([cycle_features(s, RATE) for s in sounds]).float())
    model.eval()
    return classify


@pytest.fixture(scope="module")
def classify():
    return make_classify()


@pytest.fixture(scope="module")
def recorded(classify):
    recording = band_noise(5, 44100)
    return recording, classify(recording, 44100)


@settings(max_examples=15, deadline=None)
@given(decibels=st.floats(-80, 80))
def test_gain_changes_no_probability(classify, recorded, decibels):
    recording, expected = recorded
    answer = classify(10 ** (decibels / 20) * recording, 44100)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_rate_changes_no_probability(classify, seed):
    """From 44.1 to 8 kHz, of what has nothing above 2 kHz.

    The cycle is not repeated: a resampler has its own way with hard seams.
    """
    recording = band_noise(5, 44100, seed=seed)
    resampled = torch.from_numpy(resample_poly(recording.numpy(), 80, 441))
    torch.testing.assert_close(
        classify(resampled, 8000), classify(recording, 44100), rtol=0, atol=1e-3
    )


def test_without_them_gain_changes_probabilities(classify, recorded):
    recording, probabilities = recorded
    plain = make_classify(level=None, band=None, spectral_mean=False)
    change = plain(0.1 * recording, 44100) - plain(recording, 44100)
    assert change.abs().max() > 0.02
    other = classify(recording, 44100, start=3.0, end=3.2)
    assert (other - probabilities).abs().max() > 0.02


def test_frequency_response_is_taken_out_by_the_mean():
    """What a smooth filter changes, the spectral mean takes out."""
    recording = noise(20 * RATE)
    spectrum = torch.fft.rfft(recording)
    frequencies = torch.fft.rfftfreq(len(recording), 1 / RATE)
    response = 10 ** (-frequencies / 2000)  # 10 dB for 1 kHz
    filtered = torch.fft.irfft(spectrum * response, len(recording))

    def distance(**arguments):
        features = all_of_it(**arguments)
        of_two = []
        for sound in (recording, filtered):
            reference = features.reference([sound], RATE)
            of_two.append(features(sound[None, : 2 * RATE], reference[None]))
        return (of_two[0] - of_two[1]).abs().mean()

    assert distance() < 0.05 * distance(spectral_mean=False)


@pytest.mark.slow
def test_a_copy_at_4_khz_looks_like_the_original(real_data):
    """The copy has another level, no band outside, and noise of 12 bits."""
    originals = real_data / "icbhi_original" / "audio_and_txt_files"
    copies = real_data / "icbhi_4k" / "audio_and_txt_files"
    wavs = sorted(originals.glob("*.wav"))
    assert len(wavs) == 10

    def likeness(features):
        cycle_features = CycleFeatures(
            CycleResampler(RATE), FixedLength(RATE, 5.0), features
        )
        likenesses = []
        for wav in wavs:
            both = []
            for path in (wav, copies / wav.name):
                recording = Recording(path)
                reference = measure_recording(cycle_features, recording)
                cycle = recording.read(2.0, 7.0)
                rate = recording.sample_rate
                both.append(cycle_features(cycle, rate, reference).flatten())
            pair = torch.stack(both).float()
            likenesses.append(torch.corrcoef(pair)[0, 1].item())
        return sum(likenesses) / len(likenesses)

    level = RecordingLevel(rms_db=-40.0)
    assert likeness(all_of_it(level=level)) > 0.9
    assert likeness(NormalisedFeatures(EfficientATFeatures())) < 0.7
