"""What all front ends have in common.

Authors
 * qlung_plugin contributors
"""

from torch import nn


class FrontEnd(nn.Module):
    """Base class of the front ends: waveforms in, features out.

    A subclass has ``sample_rate``, in Hz, and its ``forward`` turns waveforms
    ``[batch, time]`` of that rate into features ``[batch, time, mel]``,
    float32, also inside autocast. ``yaml_key`` is the key of the recipes that
    it goes under, if not ``compute_features``.
    """

    sample_rate = None
