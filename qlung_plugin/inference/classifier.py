"""A recording in; cycles with their class, probabilities and quality out.

Authors
 * qlung_plugin contributors
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from qlung_plugin.dataio.cycle_sources import Source, find_cycles
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.dataio.samples import SHORTEST
from qlung_plugin.inference.classification import (
    UNUSABLE,
    Classification,
    average_cycles,
    call_cycles,
    describe_recording,
    summarise_cycles,
)
from qlung_plugin.inference.engines import ENGINES, OnnxEngine, TorchEngine
from qlung_plugin.inference.model_checks import PARTS
from qlung_plugin.inference.models import open_model
from qlung_plugin.inference.recording_cycles import (
    classify_cycles,
    classify_waveforms,
)
from qlung_plugin.nnet.folding import fold_batch_norms
from speechbrain.inference.interfaces import Pretrained


class RespiratorySoundClassifier(Pretrained):
    """Classifies respiratory cycles with a trained model.

    The way of a cycle to the model is that of the training recipes: its quality
    is measured as it is, and it is resampled, brought to its length, and
    turned into features by the model's own front end. If that normalises by the
    recording, :meth:`classify_file` measures the whole file first; of batches,
    each cycle is its own recording.

    Arguments
    ---------
    modules : dict
        The parts of a model: see
        :data:`qlung_plugin.inference.model_checks.PARTS`.
    hparams : dict
        With ``labels``.
    run_opts : dict, optional
        See ``speechbrain.inference.interfaces.Pretrained``.
    freeze_params : bool
        Whether the model is only applied. If so, the backbone is a copy whose
        batch norms are folded into its convolutions, which is faster, and
        equal but for rounding.

    Example
    -------
    >>> from qlung_plugin.dataio.cycles import (
    ...     CycleFeatures,
    ...     CycleResampler,
    ...     FixedLength,
    ... )
    >>> from qlung_plugin.lobes.features import EfficientATFeatures
    >>> from qlung_plugin.lobes.models.efficientat import EfficientAT
    >>> from qlung_plugin.lobes.quality import AudioQualityScore
    >>> from qlung_plugin.nnet.classifiers import LinearClassifier
    >>> modules = {
    ...     "quality": AudioQualityScore(16000),
    ...     "cycle_features": CycleFeatures(
    ...         CycleResampler(32000),
    ...         FixedLength(32000, duration=1.0),
    ...         EfficientATFeatures(),
    ...     ),
    ...     "backbone": EfficientAT(width_mult=0.1),
    ...     "classifier": LinearClassifier(96, 2),
    ... }
    >>> labels = {"labels": ["normal", "abnormal"]}
    >>> model = RespiratorySoundClassifier(modules, labels)
    >>> probabilities, score, index, label = model.classify_batch(
    ...     torch.randn(3, 16000), torch.tensor([1.0, 0.5, 0.7])
    ... )
    >>> probabilities.shape
    torch.Size([3, 2])
    """

    MODULES_NEEDED = list(PARTS)
    HPARAMS_NEEDED = ["labels"]

    def __init__(
        self,
        modules: dict[str, nn.Module],
        hparams: dict[str, Any],
        run_opts: dict[str, Any] | None = None,
        freeze_params: bool = True,
    ) -> None:
        if freeze_params:
            # Not the front end: its result is rounded to half precision, which
            # makes a difference in the last bit one that can be seen.
            folded = fold_batch_norms(modules["backbone"])
            modules = {**modules, "backbone": folded}
        super().__init__(modules, hparams, run_opts, freeze_params)
        self.engine = TorchEngine(self.mods)

    @classmethod
    def from_hparams(
        cls,
        source: Path | str,
        checkpoint: str | None = None,
        trust: str | Iterable[str] = (),
        run_opts: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> RespiratorySoundClassifier:
        """Loads a model.

        Arguments
        ---------
        source : str or Path
            The output folder of a training, a folder that ``qlung export``
            wrote, the id of such a folder on the Hugging Face hub, or
            ``transfer`` or ``icbhi``: a model that ships with this package.
        checkpoint : str, optional
            ``selected`` on validation, ``last``, or ``test_selected``. By
            default that which was exported, and ``selected`` of a training.
        trust : str or iterable of str
            Modules, or packages of some, from outside, whose classes the model
            may have, too. They are imported.
        run_opts : dict, optional
            Such as ``{"device": "cuda"}``.
        **kwargs
            For the constructor.

        Returns
        -------
        RespiratorySoundClassifier
            With ``hparams.checkpoint``, ``hparams.epoch`` and
            ``hparams.provenance``.

        Raises
        ------
        FileNotFoundError
            If the source is no model, or a part of it is missing.
        ValueError
            If a file is damaged, does not fit the others, or names a class that
            is not allowed; or if the source has another checkpoint, or is the
            run folder of an older version.
        """
        model = open_model(source, checkpoint=checkpoint, trust=trust)
        return cls(
            modules={name: model[name] for name in PARTS},
            hparams={k: v for k, v in model.items() if k not in PARTS},
            run_opts=run_opts,
            **kwargs,
        )

    def use_engine(self, name: str) -> None:
        """Chooses what runs the network behind the front end from now on.

        Arguments
        ---------
        name : str
            ``torch``, which does without being asked; or ``onnx``:
            onnxruntime, which is faster on a CPU, with probabilities equal to
            1e-4. It has the weights as they are now. Exported once, the network
            is kept in ``torch.hub.get_dir()``.

        Raises
        ------
        RuntimeError
            If a package for it is not installed.
        ValueError
            If it is another one, the model is not on the CPU, or its network
            cannot be exported.

        Example
        -------
        >>> model = RespiratorySoundClassifier.from_hparams("transfer")
        >>> model.use_engine("torch")
        """
        if name not in ENGINES:
            raise ValueError(f"{name} is no engine: {', '.join(ENGINES)} are")
        if name == "torch":
            self.engine = TorchEngine(self.mods)
            return
        if torch.device(self.device).type != "cpu":
            raise ValueError(
                f"the engine onnx is for the CPU, not for {self.device}: take"
                " the engine torch"
            )
        with self._inference():
            self.engine = OnnxEngine(self.mods)

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the probabilities."""
        return list(self.hparams.labels)

    @property
    def operating_point(self) -> dict[str, float] | None:
        """The offset by label that its validation chose, or None.

        It decides in :meth:`classify_file`; :meth:`classify_batch`, as
        SpeechBrain has it, gives the most probable class.
        """
        point: dict[str, float] | None
        point = getattr(self.hparams, "operating_point", None)
        return point

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of the model's making, see ``open_model``."""
        return getattr(self.hparams, "provenance", {})

    @property
    def columns(self) -> list[str]:
        """Of the table of cycles; see :class:`Classification`."""
        measure = self.mods.quality
        return [
            "start",
            "end",
            "prediction",
            *(f"p_{label}" for label in self.labels),
            "quality",
            *(measure.names if measure.of_waveforms else ()),
        ]

    @property
    def sample_rate(self) -> int:
        """The rate that batches of waveforms are expected at, in Hz."""
        return self.mods.cycle_features.resampler.sample_rate

    def encode_batch(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeds cycles, each as a recording of its own.

        Arguments
        ---------
        wavs : torch.Tensor
            Cycles ``[batch, time]`` or one ``[time]``, at
            :attr:`sample_rate`, full scale at 1.
        wav_lens : torch.Tensor, optional
            Valid share of each, ``[batch]`` in [0, 1]; the rest is padding, of
            which nothing is seen. All of it if not given.

        Returns
        -------
        torch.Tensor
            ``[batch, dim]``.

        Raises
        ------
        ValueError
            If a cycle has no sample.
        """
        waveforms = unpad(wavs.to(self.device), wav_lens)
        with self._inference():
            return self.engine(waveforms, self.sample_rate)[0].flatten(1)

    def classify_batch(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
        """Classifies cycles, each as a recording of its own.

        Arguments
        ---------
        wavs, wav_lens
            See :meth:`encode_batch`, also for errors.

        Returns
        -------
        probabilities : torch.Tensor
            ``[batch, class]``.
        score : torch.Tensor
            The highest of each, ``[batch]``.
        index : torch.Tensor
            Which it is, ``[batch]``.
        text_lab : list of str
            The labels of these.

        Raises
        ------
        ValueError
            If a probability is not finite.
        """
        waveforms = unpad(wavs.to(self.device), wav_lens)
        with self._inference():
            probabilities, _ = classify_waveforms(
                self.engine, waveforms, self.sample_rate
            )
        score, index = probabilities.max(dim=-1)
        text = [self.labels[i] for i in index.tolist()]
        return probabilities, score, index, text

    def classify_file(
        self,
        path: Path | str,
        cycles: Source | None = None,
        channel: int | None = None,
        allow_truncated: bool = False,
        shortest: float = SHORTEST,
    ) -> Classification:
        """Classifies the cycles of a recording, of any length.

        Arguments
        ---------
        path : str or Path
            The recording: any format that soundfile or PyAV reads, at any rate;
            several channels are averaged.
        cycles : str, Path or list, optional
            Where its cycles are: see
            :func:`qlung_plugin.dataio.cycle_sources.find_cycles`. By default
            its annotation, if there is one beside it; else it is segmented.
        channel : int, optional
            The only channel to read, from 1.
        allow_truncated : bool
            Whether to take what there is of a file that holds less than its
            header says.
        shortest : float
            In seconds: a cycle with less sound gets no class. Where a sample
            stays the same for 20 ms, there is none.

        Returns
        -------
        Classification
            The cycles, and a summary of the recording.

        Raises
        ------
        FileNotFoundError
            If the recording, or its annotation, is not there.
        ValueError
            If it is not audio, empty, truncated, or damaged, its channels
            cancel each other, a cycle ends past its end, the annotation does
            not fit, or a probability is not finite; the message names the file.
        """
        return self._hear_file(
            path, cycles, channel, allow_truncated, shortest
        )[0]

    def embed_file(
        self, path: Path | str, by: str = "cycle", **options: Any
    ) -> Classification:
        """Classifies the cycles of a recording, and tells their embeddings.

        Arguments
        ---------
        path : str or Path
            The recording.
        by : str
            ``cycle``, or ``recording``: a single row of the means over the
            cycles that have a class, each counting the same however long:
            of the embeddings, the probabilities (by which the row's class is
            decided as a cycle's is), and of the quality over all cycles. It is
            from 0 to the end of the recording; unusable, if all cycles are.
        **options
            As of :meth:`classify_file`: windows, too, are cycles.

        Returns
        -------
        Classification
            As of :meth:`classify_file`, with further columns ``e_0`` ...: what
            the classifier makes its probabilities of, in single precision; NaN
            where there is no class. In one pass: the rest is the same.

        Raises
        ------
        FileNotFoundError
            See :meth:`classify_file`.
        ValueError
            See there; or if ``by`` is something else.

        Example
        -------
        >>> import soundfile
        >>> model = RespiratorySoundClassifier.from_hparams("transfer")
        >>> path = getfixture("tmp_path") / "noise.wav"
        >>> generator = torch.Generator().manual_seed(0)
        >>> noise = torch.randn(40000, generator=generator)
        >>> soundfile.write(path, 0.1 * noise.numpy(), 4000)
        >>> cycles, _ = model.embed_file(path, cycles="windows")
        >>> cycles.filter(regex="^e_").shape
        (3, 896)
        """
        if by not in ("cycle", "recording"):
            raise ValueError(f"by={by!r} is neither cycle nor recording")
        (cycles, summary), embeddings = self._hear_file(path, **options)
        if by == "recording":
            cycles = average_cycles(
                cycles, summary["duration"], self.labels, self._call
            )
            embeddings = embeddings.nanmean(0, keepdim=True)
        names = [f"e_{i}" for i in range(embeddings.shape[1])]
        embedded = pd.DataFrame(embeddings.numpy(), columns=names)
        return Classification(pd.concat([cycles, embedded], axis=1), summary)

    def _call(self, shares: np.ndarray) -> list[str]:
        """The classes ``[cycle]`` of probabilities ``[cycle, class]``."""
        abstention = self.provenance.get("abstention")
        return call_cycles(
            shares, self.labels, self.operating_point, abstention
        )

    def _hear_file(
        self,
        path: Path | str,
        cycles: Source | None = None,
        channel: int | None = None,
        allow_truncated: bool = False,
        shortest: float = SHORTEST,
    ) -> tuple[Classification, torch.Tensor]:
        """What a model says of a recording, and embeddings ``[cycle, dim]``."""
        recording = Recording(path, channel, allow_truncated)
        times, source, confidence = find_cycles(recording, cycles)
        with self._inference():
            shares, embeddings, quality = classify_cycles(
                *(self.engine, self.mods.quality, recording, times, shortest),
                num_classes=len(self.labels),
                device=self.device,
            )
        called = self._call(shares.numpy())
        usable = ~shares.isnan().any(dim=-1)
        table = pd.DataFrame(
            [
                (*time, label if has_class else UNUSABLE, *values)
                for time, label, has_class, values in zip(
                    times,
                    called,
                    usable.tolist(),
                    torch.cat([shares, quality], dim=-1).tolist(),
                )
            ],
            columns=self.columns,
        )
        summary = {
            **describe_recording(recording, path, channel),
            "cycle_source": source,
            "confidence": confidence,
            **summarise_cycles(table, self.labels),
            "operating_point": self.operating_point,
            "operating_point_rule": self.provenance.get("operating_point_rule"),
        }
        # A backbone of one's own need not say its dimension.
        dim = getattr(self.mods.backbone, "embedding_dim", 0)
        if not embeddings.shape[1]:  # all are unusable
            embeddings = torch.full((len(times), dim), torch.nan)
        return Classification(table, summary), embeddings

    def forward(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
        """Runs the classification."""
        return self.classify_batch(wavs, wav_lens)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), self.inference_ctx:
            yield


def unpad(
    wavs: torch.Tensor, wav_lens: torch.Tensor | None
) -> list[torch.Tensor]:
    """The cycles of a padded batch, each of its own length."""
    wavs = torch.atleast_2d(wavs).float()
    if wav_lens is None:
        wav_lens = torch.ones(len(wavs))
    if wavs.dim() != 2 or wav_lens.shape != wavs.shape[:1]:
        raise ValueError(
            "cycles must be [batch, time] with lengths [batch], not"
            f" {list(wavs.shape)} with {list(wav_lens.shape)}"
        )
    lengths = (wav_lens.double() * wavs.shape[1]).round().long().tolist()
    if not all(0 < length <= wavs.shape[1] for length in lengths):
        raise ValueError(
            "every cycle needs a sample: the lengths must be above 0 and at"
            f" most 1, not {wav_lens.tolist()}"
        )
    return [wav[:length] for wav, length in zip(wavs, lengths)]
