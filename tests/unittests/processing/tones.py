"""What the tests of degradations and interference begin with.

Authors
 * qlung_plugin contributors
"""

import math

import torch

RATE = 8000


def tone(frequency, seconds=1.0, amplitude=0.5):
    time = torch.arange(round(seconds * RATE)) / RATE
    return amplitude * torch.sin(2 * math.pi * frequency * time)


def decibels(power):
    return 10 * math.log10(power)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
