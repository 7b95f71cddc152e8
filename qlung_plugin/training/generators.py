"""Random states that a resumed training needs.

Authors
 * qlung_plugin contributors
"""

import random

import numpy as np

from speechbrain.utils.repro import SaveableGenerator


class AllGenerators(SaveableGenerator):
    """The global generators of PyTorch, NumPy and Python, as a recoverable.

    SpeechBrain's class keeps those of PyTorch; its Augmenter draws from
    Python's as well, and a user's own augmentation may draw from NumPy's.

    Example
    -------
    >>> generators = AllGenerators()
    >>> path = getfixture("tmp_path") / "generators"
    >>> generators.save(path)
    >>> first = random.random(), np.random.rand()
    >>> generators.load(path, end_of_epoch=True)
    >>> first == (random.random(), np.random.rand())
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self.generators["python"] = _PythonGenerator()
        self.generators["numpy"] = _NumpyGenerator()


class _PythonGenerator:
    """Python's global generator with the interface of a torch.Generator."""

    def get_state(self) -> tuple:
        return random.getstate()

    def set_state(self, state: tuple) -> None:
        random.setstate(state)


class _NumpyGenerator:
    """NumPy's global generator with the interface of a torch.Generator."""

    def get_state(self) -> tuple:
        # Plain numbers: torch.load refuses NumPy's arrays.
        name, keys, *rest = np.random.get_state(legacy=True)
        return (name, np.asarray(keys).tolist(), *rest)

    def set_state(self, state: tuple) -> None:
        np.random.set_state(state)
