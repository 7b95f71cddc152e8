"""No-reference measurements of the quality of an auscultation recording.

Pure functions from a batch of waveforms or power spectra to one number per
waveform. Nothing here is normalised or learned: what turns a measurement into
a score between 0 and 1 is in :mod:`qlung_plugin.lobes.quality`.

Arguments of one name are the same everywhere:

* ``waveforms``, ``[batch, time]``, full scale at 1, and ``centred``, the same
  without DC (:func:`remove_dc`). ``lengths`` is their number of valid samples,
  ``[batch]``: whatever lies behind them changes nothing. ``silent`` tells which
  of them hold no signal, boolean ``[batch, time]`` (:func:`constant_runs`);
  without it all do.
* ``power``, ``[batch, frame, bin]``, and ``frames``, which of its frames count,
  boolean ``[batch, frame]`` (:func:`power_frames`). ``bins`` tells which of its
  bins count, boolean ``[batch, bin]`` (:func:`band_bins`).
* ``levels``, in dB, ``[batch, frame, band]`` (:func:`band_levels`), or
  ``[batch, frame]`` of a single band.

What is returned is ``[batch]``, and NaN where nothing counts, unless it is said
otherwise.

Authors
 * qlung_plugin contributors
"""

from qlung_plugin.processing.quality.breathing import (
    breathing_course,
    breathing_periodicity,
    breathing_share,
    smooth,
)
from qlung_plugin.processing.quality.frames import (
    SILENCE,
    USABLE,
    average_with_silence,
    band_bins,
    clear_padding,
    mean_over_frames,
    power_frames,
    quantile_over_frames,
    remove_dc,
    sample_mask,
)
from qlung_plugin.processing.quality.levels import (
    band_levels,
    band_matrix,
    band_shares,
    burst_share,
    faint_share,
    level_correlation,
    spectral_flux,
    spread_over_frames,
)
from qlung_plugin.processing.quality.silence import (
    SHORTEST_SILENCE,
    constant_runs,
    resample_mask,
)
from qlung_plugin.processing.quality.spectrum import (
    blind_snr,
    entropy_of_frames,
    spectral_entropy,
    spectral_flatness,
)
from qlung_plugin.processing.quality.waveform import (
    clipping_ratio,
    crest_factor,
    log_kurtosis,
    mains_hum,
    rms_level,
)

__all__ = [
    "SHORTEST_SILENCE",
    "SILENCE",
    "USABLE",
    "average_with_silence",
    "band_bins",
    "band_levels",
    "band_matrix",
    "band_shares",
    "blind_snr",
    "breathing_course",
    "breathing_periodicity",
    "breathing_share",
    "burst_share",
    "clear_padding",
    "clipping_ratio",
    "constant_runs",
    "crest_factor",
    "entropy_of_frames",
    "faint_share",
    "level_correlation",
    "log_kurtosis",
    "mains_hum",
    "mean_over_frames",
    "power_frames",
    "quantile_over_frames",
    "remove_dc",
    "resample_mask",
    "rms_level",
    "sample_mask",
    "smooth",
    "spectral_entropy",
    "spectral_flatness",
    "spectral_flux",
    "spread_over_frames",
]
