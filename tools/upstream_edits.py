"""What two pull requests change in files that SpeechBrain has already.

See :class:`upstream_rules.Edit`. The second is of definitions as well, which are
put before a line.

Authors
 * qlung_plugin contributors
"""

from upstream_rules import Edit

LOSSES = "speechbrain/nnet/losses.py"
VOCAL_FEATURES = "speechbrain/processing/vocal_features.py"
FEATURES = "speechbrain/lobes/features.py"

_ANGULAR = "class AngularMargin(nn.Module):\n"
_ADDITIVE = "class AdditiveAngularMargin(AngularMargin):\n"
_WRAPPER = "class LogSoftmaxWrapper(nn.Module):\n"

_SIGNATURE = "    def forward(self, outputs, targets):\n"
_SIGNATURE_WITH_MARGIN = (
    "    def forward(self, outputs, targets, margin=None):\n"
)
_TARGETS = "            The targets of shape [N, C], where the margin is applied for.\n"
_MARGIN = """\
        margin : torch.Tensor, optional
            A margin for each sample, of shape [N] or [N, 1], instead of the
            one of the constructor.
"""

MARGIN_EDITS = [
    Edit(_ANGULAR, _SIGNATURE, _SIGNATURE_WITH_MARGIN),
    Edit(_ANGULAR, _TARGETS, _TARGETS + _MARGIN),
    Edit(
        _ANGULAR,
        "        outputs = outputs - self.margin * targets\n",
        """\
        margin = self.margin if margin is None else margin.reshape(-1, 1)
        outputs = outputs - margin * targets
""",
    ),
    Edit(
        _ADDITIVE,
        "    tensor([ True, False,  True, False])\n",
        """\
    tensor([ True, False,  True, False])
    >>> margin = torch.tensor([0.0, 0.0, 0.2, 0.2])  # one for each sample
    >>> (pred(outputs, targets, margin) < predictions).any(dim=1)
    tensor([False, False,  True,  True])
""",
    ),
    Edit(_ADDITIVE, _SIGNATURE, _SIGNATURE_WITH_MARGIN),
    Edit(
        _ADDITIVE,
        _TARGETS,
        _TARGETS + _MARGIN.replace("constructor.", "constructor, in radians."),
    ),
    Edit(
        _ADDITIVE,
        "        phi = cosine * self.cos_m - sine * self.sin_m  "
        "# cos(theta + m)\n",
        """\
        if margin is None:
            cos_m, sin_m, th, mm = self.cos_m, self.sin_m, self.th, self.mm
        else:
            margin = margin.to(cosine).reshape(-1, 1)
            cos_m, sin_m = margin.cos(), margin.sin()
            th, mm = -cos_m, sin_m * margin  # of pi - margin
        phi = cosine * cos_m - sine * sin_m  # cos(theta + m)
""",
    ),
    Edit(
        _ADDITIVE,
        "cosine > self.th, phi, cosine - self.mm",
        "cosine > th, phi, cosine - mm",
    ),
    Edit(
        _WRAPPER,
        "    def forward(self, outputs, targets, length=None):\n",
        "    def forward(self, outputs, targets, length=None, margin=None):\n",
    ),
    Edit(
        _WRAPPER,
        "            The lengths of the corresponding inputs.\n",
        """\
            The lengths of the corresponding inputs.
        margin : torch.Tensor, optional
            A margin for each sample, of shape [batch] or [batch, 1], for a
            loss_fn that takes one.
""",
    ),
    Edit(
        _WRAPPER,
        """\
        try:
            predictions = self.loss_fn(outputs, targets)
        except TypeError:
            predictions = self.loss_fn(outputs)
""",
        """\
        if margin is not None:
            predictions = self.loss_fn(outputs, targets, margin)
        else:
            try:
                predictions = self.loss_fn(outputs, targets)
            except TypeError:
                predictions = self.loss_fn(outputs)
""",
    ),
]


def quality_edits(functions: str, module: str) -> dict[str, list[Edit]]:
    """The edits of each file that puts functions and a module beside others."""
    spec_norm = "def spec_norm(value, spectrum, eps=1e-10):\n"
    moving_average = "def moving_average(features, dim=1, n=3):\n"
    imported = (
        "    compute_periodic_features,\n    compute_spectral_features,\n)\n"
    )
    return {
        VOCAL_FEATURES: [
            Edit(
                "",
                "import torch\nimport torchaudio\n",
                "import math\n\nimport torch\nimport torchaudio\n",
            ),
            Edit("", spec_norm, functions + spec_norm),
        ],
        FEATURES: [
            Edit(
                "",
                "import torch\n\n",
                "import torch\nimport torch.nn.functional as F\n\n",
            ),
            Edit(
                "",
                imported,
                imported.replace(
                    "    compute_spectral_features,\n",
                    "    compute_spectral_entropy,\n"
                    "    compute_spectral_features,\n"
                    "    mean_over_frames,\n",
                ),
            ),
            Edit("", moving_average, module + moving_average),
        ],
    }
