"""The power of a short-time Fourier transform.

Authors
 * qlung_plugin contributors
"""

import math

import torch
import torch.nn.functional as F


def power_spectrum(
    waveforms: torch.Tensor,
    n_fft: int,
    hop_length: int,
    window: torch.Tensor,
    center: bool = True,
    bins: int | None = None,
) -> torch.Tensor:
    """The power of an STFT, ``[batch, bin, frame]``, of ``[batch, time]``.

    Of the first ``bins``, or all; ``center`` is that of ``torch.stft``. Exported, it
    is made of convolutions: :func:`convolved_power`.

    Example
    -------
    >>> tone = torch.sin(2 * torch.pi * 3 / 16 * torch.arange(64))[None]
    >>> power = power_spectrum(tone, 16, 8, torch.ones(16), center=False)
    >>> power.shape, int(power.sum(dim=-1).argmax())
    (torch.Size([1, 9, 7]), 3)
    """
    if torch.compiler.is_exporting():
        return convolved_power(
            waveforms, n_fft, hop_length, window, center, bins
        )
    spectrum = torch.stft(
        waveforms,
        n_fft,
        hop_length=hop_length,
        win_length=len(window),
        window=window,
        center=center,
        return_complex=True,
    )
    spectrum = spectrum[:, :bins]
    return spectrum.real.square() + spectrum.imag.square()


def convolved_power(
    waveforms: torch.Tensor,
    n_fft: int,
    hop_length: int,
    window: torch.Tensor,
    center: bool = True,
    bins: int | None = None,
) -> torch.Tensor:
    """What :func:`power_spectrum` gives, by convolutions and products alone.

    The STFT of ONNX takes three times as long in onnxruntime. This is the
    transform of Cooley and Tukey in two steps: of ``n_fft`` samples in rows and
    columns, the first transforms each column, the second what that gives across
    the columns. The first is a convolution that steps over the whole waveform, with
    the window and the phase between the steps in its kernels, so that no frames are
    cut out. Source: J. W. Cooley, J. W. Tukey, "An algorithm for the machine
    calculation of complex Fourier series", Math. Comp. 19, 1965.

    Example
    -------
    >>> noise = torch.randn(2, 4000)
    >>> setting = 256, 80, torch.hann_window(200)
    >>> torch.allclose(
    ...     convolved_power(noise, *setting),
    ...     power_spectrum(noise, *setting),
    ...     atol=1e-3,
    ... )
    True
    """
    bins = n_fft // 2 + 1 if bins is None else bins
    common = math.gcd(n_fft, hop_length)
    columns = max(c for c in range(1, math.isqrt(n_fft) + 1) if common % c == 0)
    rows = n_fft // columns
    before = (n_fft - len(window)) // 2
    window = F.pad(window, (before, n_fft - len(window) - before))
    if center:
        waveforms = F.pad(
            waveforms.unsqueeze(1), 2 * [n_fft // 2], mode="reflect"
        ).squeeze(1)
    frames = 1 + (waveforms.shape[-1] - n_fft) // hop_length
    seen = waveforms.narrow(1, 0, (frames - 1) * hop_length + n_fft)

    # Bin q + rows * p has, of the sample in row r and column c, the phase
    # q * (columns * r + c) / n_fft + p * c / columns: first q, then p.
    q = torch.arange(rows, device=window.device).unsqueeze(1)
    samples = torch.arange(n_fft, device=window.device)
    real, imaginary = _phasors(q * samples, n_fft) * window
    kernels = torch.stack([real, imaginary], dim=1)
    kernels = kernels.unflatten(2, (rows, columns)).permute(3, 0, 1, 2)
    columnwise = F.conv1d(
        seen.unflatten(1, (-1, columns)).transpose(1, 2),
        kernels.reshape(-1, 1, rows),  # (column, q, part)
        stride=hop_length // columns,
        groups=columns,
    )
    parts = columnwise.unflatten(1, (columns, rows, 2)).transpose(1, 2)

    p = torch.arange(-(-bins // rows), device=window.device).unsqueeze(1)
    real, imaginary = _phasors(p * samples[:columns], columns)
    matrix = torch.stack(
        [
            torch.stack([real, -imaginary], dim=2),
            torch.stack([imaginary, real], dim=2),
        ]
    )
    # [(part, p), (column, part)] with [batch, q, (column, part), frame]
    spectrum = torch.matmul(
        matrix.flatten(2).flatten(0, 1), parts.flatten(2, 3)
    )
    power = spectrum.square().unflatten(2, (2, -1)).sum(dim=2)
    return power.transpose(1, 2).flatten(1, 2)[:, :bins]


def _phasors(numerators: torch.Tensor, denominator: int) -> torch.Tensor:
    """Real and imaginary parts at a negative share of a turn, ``[2, ...]``."""
    angles = numerators % denominator * (2 * math.pi / denominator)
    return torch.stack([angles.cos(), -angles.sin()])
