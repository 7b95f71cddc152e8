"""Tests of the check of samples.

Authors
 * qlung_plugin contributors
"""

import math

import pytest
import torch

from qlung_plugin.dataio.samples import LARGEST, check_samples


@pytest.mark.parametrize(
    "value, text",
    [
        (math.nan, "a.wav holds NaN or infinite samples"),
        (-math.inf, "a.wav holds NaN or infinite samples"),
        (-2 * LARGEST, r"a.wav holds samples above 1e\+10, where"),
    ],
)
@pytest.mark.parametrize("place", [0, 17, 3999])
def test_what_no_recording_holds_is_named_with_its_time(value, text, place):
    waveform = torch.full((4000,), 0.5)
    waveform[place:] = value
    time = (8000 + place) / 4000
    with pytest.raises(ValueError, match=rf"{text}.*first at {time:.6g} s"):
        check_samples(waveform, "a.wav", 8000, 4000)


@pytest.mark.parametrize("value", [0.0, LARGEST, 1e-44])
def test_what_recordings_hold(value):
    check_samples(torch.full((4000,), value), "a.wav", 0, 4000)
    check_samples(torch.zeros(0), "a.wav", 0, 4000)
