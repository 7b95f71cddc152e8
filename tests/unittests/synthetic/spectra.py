"""What the tests of generated sounds measure.

Authors
 * qlung_plugin contributors
"""

import numpy as np
from scipy.signal import medfilt, welch


def decibels(ratio):
    return 10 * np.log10(ratio)


def band_powers(sound, rate, *bands):
    """Mean power density between the (low, high) of each band."""
    frequencies, power = welch(sound, rate, nperseg=rate // 10)
    return [
        power[(frequencies >= low) & (frequencies < high)].mean()
        for low, high in bands
    ]


def tonality(sound, rate):
    """The highest peak over what surrounds it, from 140 to 1000 Hz."""
    _, power = welch(sound, rate, nperseg=rate // 10)
    return (power / medfilt(power, 21))[14:100].max()
