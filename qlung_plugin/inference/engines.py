"""What runs a model: PyTorch alone, or with onnxruntime for its network.

Authors
 * qlung_plugin contributors
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from qlung_plugin import __version__
from qlung_plugin.dataio.cycles import CycleFeatures, OwnLength
from qlung_plugin.dataio.lengths import apply_by_shape
from qlung_plugin.inference.onnx_export import (
    OPSET,
    quiet_exporter,
    without_masked_bands,
)
from qlung_plugin.lobes.features import NormalisedFeatures
from qlung_plugin.nnet.classifiers import logits_and_cosines
from qlung_plugin.utils.files import replacing

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ENGINES = ("torch", "onnx")
NEEDED = ("onnx", "onnxruntime")
KEPT = 8  # exported networks on disk
TOLERANCE = 1e-4  # of probabilities

# What the exporter and the modules that it traces are known to raise.
EXPORT_ERRORS = (
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def missing_packages() -> list[str]:
    """What the engine ``onnx`` needs, and is not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


class TorchEngine:
    """Front end, backbone and classifier of a model in PyTorch.

    Called with waveforms ``[time]`` at a rate in Hz, and the reference of their
    recording, it gives embeddings, as the backbone does, and logits ``[batch,
    class]``. The reference is to be measured for its ``front_end``.
    """

    def __init__(self, modules: nn.ModuleDict) -> None:
        self.modules: Any = modules
        self.front_end: Any = self.modules["cycle_features"]
        # What glibc keeps of freed memory is twice the largest block so far; less
        # than a cycle needs would be handed back, and asked for, with each.
        torch.empty(2**24, dtype=torch.uint8)

    def __call__(
        self,
        waveforms: list[torch.Tensor],
        native_rate: int,
        reference: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # One at a time, as in training: what follows is rounded to half
        # precision, which doubles a difference in the last bit.
        features = [
            self.features(waveform, native_rate, reference)
            for waveform in waveforms
        ]
        embeddings, logits = apply_by_shape(self.network, features)
        return embeddings, logits

    def features(
        self,
        waveform: torch.Tensor,
        native_rate: int,
        reference: torch.Tensor | None,
    ) -> torch.Tensor:
        """What the front end makes of a cycle, in single precision."""
        return self.front_end(waveform, native_rate, reference).float()

    def network(
        self, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and logits of features ``[batch, ...]``."""
        embeddings = self.modules["backbone"](features)
        logits, _ = logits_and_cosines(self.modules["classifier"](embeddings))
        return embeddings, logits


class OnnxEngine(TorchEngine):
    """The front end in PyTorch, the network behind it in onnxruntime.

    On the CPU, on as many threads as PyTorch has. Frozen first blocks, which the
    front end ends with, are of the network. It is exported once and kept on
    disk, and each time compared with PyTorch before it is used: probabilities
    are equal to 1e-4.

    Raises
    ------
    RuntimeError
        If a package is not installed.
    ValueError
        If the network cannot be exported, or is another one then.
    """

    def __init__(self, modules: nn.ModuleDict) -> None:
        super().__init__(modules)
        missing = missing_packages()
        if missing:
            raise RuntimeError(
                f"the engine onnx needs {' and '.join(missing)}: pip install"
                " 'qlung_plugin[onnx]', or take the engine torch"
            )
        if isinstance(self.front_end.fix_length, OwnLength):
            raise ValueError(
                "its cycles keep their own length (OwnLength), and a network is"
                " exported for one length"
            )
        self.after = None
        if type(self.front_end) is CycleFeatures:  # not of subclasses
            compute = without_masked_bands(self.front_end.compute_features)
            self.front_end = CycleFeatures(
                self.front_end.resampler, self.front_end.fix_length, compute
            )
            if type(compute) is NormalisedFeatures:
                self.after = compute.after
        rate = self.front_end.resampler.sample_rate
        generator = torch.Generator().manual_seed(0)  # not that of all
        noise = torch.rand(3, rate, generator=generator) - 0.5
        cycles = [self.features(cycle, rate, None) for cycle in noise]
        self.whole = Network(
            self.after, self.modules["backbone"], self.modules["classifier"]
        ).eval()
        self.shape = cycles[0].shape
        self.session = open_network(self.whole, torch.stack(cycles))

    def features(
        self,
        waveform: torch.Tensor,
        native_rate: int,
        reference: torch.Tensor | None,
    ) -> torch.Tensor:
        """What the front end makes of a cycle before its frozen blocks."""
        if self.after is None:
            return super().features(waveform, native_rate, reference)
        inputs = self.front_end.prepare(waveform, native_rate, reference)
        return self.front_end.compute_features.normalise(*inputs)[0]

    def network(
        self, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`TorchEngine`."""
        if features.shape[1:] != self.shape:  # of a front end from elsewhere
            return self.whole(features)
        return run_network(self.session, features)


class Network(nn.Module):
    """What a model has behind its features, in one module."""

    def __init__(
        self, after: nn.Module | None, backbone: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.after, self.backbone, self.head = after, backbone, head

    def forward(
        self, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and logits of features ``[batch, ...]``."""
        if self.after is not None:
            # In half precision, as CycleFeatures hands them on.
            features = self.after(features).half().float()
        embeddings = self.backbone(features)
        return embeddings, logits_and_cosines(self.head(embeddings)).logits


def open_network(
    network: nn.Module, features: torch.Tensor
) -> "InferenceSession":
    """A network in onnxruntime, from disk if it was exported before.

    For features of the shape of those given, ``[3, ...]``; what it makes of these
    is compared. If it cannot be, a ValueError says why.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    path = _cache_path(network, features)
    stored = read_stored(path)
    if stored is not None:
        session = _start(stored)
        if _agrees(session, network, features[:1]):
            return session
    try:
        exported = _export(network, features[:1])
        session = _start(exported)
        agrees = _agrees(session, network, features)
    except (
        *EXPORT_ERRORS,
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.NotImplemented,
        errors.RuntimeException,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"its network cannot be exported to onnxruntime: {reason}"
        ) from error
    if not agrees:
        raise ValueError("its network has other results in onnxruntime")
    store(path, exported)
    return session


def _export(network: nn.Module, features: torch.Tensor) -> bytes:
    # By tracing: torch.export takes twenty times as long, which is more than a
    # folder of recordings may save.
    with (
        quiet_exporter(),
        torch.inference_mode(),
        TemporaryDirectory() as folder,
    ):
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            (features,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["features"],
            output_names=["embeddings", "logits"],
        )
        return path.read_bytes()


def _start(exported: bytes) -> "InferenceSession":
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Threads that wait busily would take the cores from PyTorch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # an error is raised, not printed, too
    return InferenceSession(
        exported, options, providers=["CPUExecutionProvider"]
    )


def run_network(
    session: "InferenceSession", features: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network of :func:`open_network` makes of features."""
    # One at a time, which is faster than a batch: what a layer gives stays in
    # the processor's cache for the next.
    outputs = [
        session.run(None, {"features": cycle.numpy()})
        for cycle in features.split(1)
    ]
    embeddings, logits = (
        torch.from_numpy(np.concatenate(part)) for part in zip(*outputs)
    )
    return embeddings, logits


@torch.inference_mode()
def _agrees(
    session: "InferenceSession", network: nn.Module, features: torch.Tensor
) -> bool:
    """Whether both are the same function of some features."""
    pairs = list(zip(run_network(session, features), network(features)))
    embeddings, expected = pairs[0]
    shares, expected_shares = (part.softmax(dim=-1) for part in pairs[1])
    largest = float(expected.abs().max())
    return torch.allclose(
        shares, expected_shares, atol=TOLERANCE, rtol=0
    ) and torch.allclose(embeddings, expected, atol=0.01 * largest, rtol=0)


def _cache_path(network: nn.Module, features: torch.Tensor) -> Path:
    """Where a network is kept: beside the weights that are downloaded."""
    import onnxruntime

    digest = hashlib.sha256()
    versions = __version__, torch.__version__, onnxruntime.__version__
    described = [*versions, repr(network), list(features.shape[1:])]
    for name, tensor in network.state_dict().items():
        described += [name, str(tensor.dtype), list(tensor.shape)]
        digest.update(tensor.contiguous().numpy())
    digest.update(json.dumps(described).encode())
    folder = Path(torch.hub.get_dir()) / "qlung_plugin"
    return folder / f"{digest.hexdigest()[:32]}.onnx"


def read_stored(path: Path) -> bytes | None:
    """What :func:`store` wrote; None if it is not there, or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, exported = content[:32], content[32:]
    return exported if digest == hashlib.sha256(exported).digest() else None


def store(path: Path, exported: bytes) -> None:
    """Keeps a network, and of older ones the last few."""
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(hashlib.sha256(exported).digest() + exported)
        kept = path.parent.glob(f"*{path.suffix}")
        for old in sorted(kept, key=lambda file: file.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError:  # it is exported again each time, which takes longer
        pass
