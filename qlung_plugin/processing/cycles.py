"""From a respiratory cycle of any length to the input of a backbone.

Pure functions on the last dimension of a waveform, ``[..., time]``.

Authors
 * qlung_plugin contributors
"""

import math
from functools import lru_cache

import torch

# Samples of an interpolation kernel; 44.1 to 32 kHz has 0.15 million, rates
# without a common divisor have thousands of millions.
LARGEST_KERNEL = 4_000_000


@lru_cache(maxsize=16)
def _resampler(
    native_rate: int, sample_rate: int, device: torch.device
) -> torch.nn.Module:
    # Here, because the mathematics of the package does without torchaudio.
    from torchaudio.transforms import Resample

    # The kernel of 44.1 to 32 kHz costs more than its use on one cycle.
    return Resample(native_rate, sample_rate).to(device)


def _resample_odd_rates(
    waveforms: torch.Tensor, native_rate: int, sample_rate: int
) -> torch.Tensor:
    from scipy.signal import resample_poly

    resampled = resample_poly(
        waveforms.double().cpu().numpy(), sample_rate, native_rate, axis=-1
    )
    return torch.from_numpy(resampled).to(waveforms)


def resample(
    waveforms: torch.Tensor, native_rate: int, sample_rate: int
) -> torch.Tensor:
    """Changes the sample rate, in Hz, by band-limited interpolation.

    Rates that have hardly a common divisor, such as 44,101 and 32,000 Hz, are
    left to SciPy: torchaudio would make a kernel of gigabytes for them.

    Example
    -------
    >>> resample(torch.zeros(100), 4000, 16000).shape
    torch.Size([400])
    """
    if native_rate == sample_rate:
        return waveforms
    if waveforms.numel() == 0:  # no waveform, or none that is anything long
        *batch, time = waveforms.shape
        return waveforms.new_zeros(
            *batch, math.ceil(time * sample_rate / native_rate)
        )
    divisor = math.gcd(native_rate, sample_rate)
    if native_rate * sample_rate > LARGEST_KERNEL * divisor**2:
        return _resample_odd_rates(waveforms, native_rate, sample_rate)
    return _resampler(native_rate, sample_rate, waveforms.device)(waveforms)


def resampling_margin(native_rate: int, sample_rate: int) -> int:
    """How much of a recording enters the edge of a resampled cycle, in samples.

    At the native rate, on either side; the filters of :func:`resample` are shorter.

    Example
    -------
    >>> resampling_margin(4000, 32000), resampling_margin(96000, 32000)
    (12, 36)
    """
    if native_rate == sample_rate:
        return 0
    return 12 * max(1, math.ceil(native_rate / sample_rate))


def resample_within(
    waveforms: torch.Tensor,
    before: int,
    after: int,
    native_rate: int,
    sample_rate: int,
) -> torch.Tensor:
    """Resamples a cycle with what lies around it, which is cut off then.

    Alone it would be resampled as if there was silence around it: a cut within a
    sound is a step, of which each rate keeps another part. So the result is that
    of resampling the recording and cutting the cycle then.

    Arguments
    ---------
    waveforms : torch.Tensor
        ``[..., time]``, with what lies around.
    before, after : int
        How many samples lie before and after the cycle; nothing is changed by
        more than :func:`resampling_margin`.
    native_rate, sample_rate : int
        From and to which rate, in Hz.

    Returns
    -------
    torch.Tensor
        The cycle alone, ``[..., time]``.

    Example
    -------
    >>> recording = torch.sin(torch.arange(1000.0))
    >>> cycle = resample_within(recording[80:520], 20, 20, 4000, 8000)
    >>> torch.allclose(
    ...     cycle, resample(recording, 4000, 8000)[200:1000], atol=1e-6
    ... )
    True
    """
    samples = waveforms.shape[-1] - before - after
    if native_rate == sample_rate:
        return waveforms[..., before : before + samples]
    divisor = math.gcd(native_rate, sample_rate)
    step = native_rate // divisor  # after which both have a sample again
    padding = -before % step
    first = (before + padding) // step * (sample_rate // divisor)
    resampled = resample(
        torch.nn.functional.pad(waveforms, (padding, 0)),
        native_rate,
        sample_rate,
    )
    length = -(-samples * sample_rate // native_rate)
    return resampled[..., first : first + length]


def fade(
    waveforms: torch.Tensor, samples: int, fade_in: bool = True
) -> torch.Tensor:
    """Linear fade-in, if asked for, and fade-out, of at most half the waveform.

    Example
    -------
    >>> fade(torch.ones(6), 3)
    tensor([0.0000, 0.5000, 1.0000, 1.0000, 0.5000, 0.0000])
    """
    samples = min(samples, waveforms.shape[-1] // 2)
    if samples < 1:
        return waveforms
    ramp = torch.linspace(0, 1, samples, device=waveforms.device)
    gain = torch.ones(waveforms.shape[-1], device=waveforms.device)
    if fade_in:
        gain[:samples] = ramp
    gain[-samples:] = ramp.flip(0)
    return waveforms * gain


def cyclic_pad(waveforms: torch.Tensor, length: int) -> torch.Tensor:
    """Repeats what is too short, and cuts, to a fixed length in samples.

    Example
    -------
    >>> cyclic_pad(torch.tensor([1, 2, 3]), 7)
    tensor([1, 2, 3, 1, 2, 3, 1])
    """
    if waveforms.shape[-1] == 0:
        raise ValueError("an empty waveform cannot be padded by repetition")
    repeats = -(-length // waveforms.shape[-1])
    shape = [1] * (waveforms.dim() - 1) + [repeats]
    return waveforms.repeat(shape)[..., :length]


def fix_length(
    waveforms: torch.Tensor,
    length: int,
    fade_samples: int,
    fade_first: bool = False,
    fade_in: bool = True,
) -> torch.Tensor:
    """Cyclic padding and fades, in either order.

    With ``fade_first``, the cycle is faded before it is repeated, so that there
    is a soft seam at each repetition, instead of after it, so that only the
    ends of the result are soft.

    Example
    -------
    >>> fix_length(torch.ones(4), 8, 2)
    tensor([0., 1., 1., 1., 1., 1., 1., 0.])
    >>> fix_length(torch.ones(4), 8, 2, fade_first=True)
    tensor([0., 1., 1., 0., 0., 1., 1., 0.])
    """
    if fade_first:
        # Cut first: the fade-out of a longer cycle would be cut off.
        cut = waveforms[..., :length]
        return cyclic_pad(fade(cut, fade_samples, fade_in), length)
    return fade(cyclic_pad(waveforms, length), fade_samples, fade_in)
