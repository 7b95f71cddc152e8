"""What a model makes of the cycles of one's own labelled table.

Authors
 * qlung_plugin contributors
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from qlung_plugin.dataio.cycle_sources import Windows, check_times
from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.labelled_table import FACTS, read_labelled_table
from qlung_plugin.dataio.labels import NORMAL
from qlung_plugin.dataio.recordings import Recording
from qlung_plugin.dataio.store_digest import file_digest
from qlung_plugin.inference.classification import UNUSABLE
from qlung_plugin.inference.classifier import RespiratorySoundClassifier
from qlung_plugin.scores.judgement import FEW_PATIENTS

FEW_OF_CLASS = 5  # patients, below which a class is hardly known
LEARNED_FROM = "recording_digests"  # of the data, in a model.json
DIGITS = 12  # hexadecimal, of SHA-256: enough to tell recordings apart

logger = logging.getLogger(__name__)


def hear_table(
    model: RespiratorySoundClassifier, path: Path | str, embed: bool = False
) -> pd.DataFrame:
    """Classifies the cycles of a table, as ``qlung classify`` would.

    Arguments
    ---------
    model : RespiratorySoundClassifier
        The model.
    path : str or Path
        A table as :func:`qlung_plugin.dataio.labelled_table.read_labelled_table`
        reads it. A row without times, a whole recording, becomes windows of 5 s
        every 2.5 s, each with its label.
    embed : bool
        Whether to tell the embeddings, too.

    Returns
    -------
    pandas.DataFrame
        A row per cycle, with the columns of ``classify_file`` (or, to embed, of
        ``embed_file``), ``recording``, ``label``, ``patient``, and ``device``,
        ``age``, ``sex`` and ``location``, None where unknown. Cycles without
        sound are left out, and counted in a warning.

    Raises
    ------
    FileNotFoundError
        If the table or recordings do not exist.
    ValueError
        If the table is malformed, a recording is no audio, a stretch ends past
        its end, or no sound is left; names file and row. If the cycles are of
        one patient, or one class.

    Example
    -------
    >>> import soundfile
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> rows = ["path,label,patient"]
    >>> for name, label in (("a", "normal"), ("b", "wheeze")):
    ...     noise = 0.1 * torch.randn(30000)
    ...     soundfile.write(folder / f"{name}.wav", noise.numpy(), 4000)
    ...     rows.append(f"{name}.wav,{label},{name}")
    >>> _ = (folder / "table.csv").write_text("\\n".join(rows))
    >>> model = RespiratorySoundClassifier.from_hparams("transfer")
    >>> hear_table(model, folder / "table.csv")[["start", "end", "label"]]
       start  end   label
    0    0.0  5.0  normal
    1    2.5  7.5  normal
    2    0.0  5.0  wheeze
    3    2.5  7.5  wheeze
    """
    table = read_labelled_table(path)
    for column, what in (("label", "class"), ("patient", "patient")):
        if table[column].nunique() < 2:
            raise ValueError(
                f"{path}: all rows have the {column} {table[column].iloc[0]}: two"
                f" or more are needed of {what}"
            )
    hear = model.embed_file if embed else model.classify_file
    parts = []
    files = tqdm(
        list(table.groupby("path", sort=False)), "recordings", disable=None
    )
    for file, rows in files:
        row = rows.index[0]
        try:
            recording = Recording(file)
            times, numbers = [], []
            for row, start, end in zip(rows.index, rows["start"], rows["end"]):
                spans: Sequence[tuple[float, float]] = [(start, end)]
                if pd.isna(start):
                    spans = Windows(recording.duration)
                checked = check_times(spans, recording, "the stretch")
                times += checked
                numbers += [row] * len(checked)
            row = rows.index[0]
            cycles = hear(file, cycles=times).cycles
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} row {row}: {error}") from error
        facts = rows.reindex(columns=["label", "patient", *FACTS])
        facts = facts.loc[numbers].reset_index(drop=True)
        parts.append(pd.concat([cycles, facts], axis=1).assign(recording=file))
    heard = pd.concat(parts, ignore_index=True)
    silent = heard["prediction"] == UNUSABLE
    if silent.any():
        logger.warning(
            "%s: %d of %d cycles left out that have no sound, such as in %s",
            *(path, silent.sum(), len(heard)),
            some(heard["recording"][silent].unique()),
        )
    heard = heard[~silent].reset_index(drop=True)
    if heard["label"].nunique() < 2 or heard["patient"].nunique() < 2:
        raise ValueError(
            f"{path}: no two classes and two patients are left that have sound"
        )
    whole = table["start"].isna()
    if whole.any():
        logger.info(
            "%s: %d whole recordings in windows of 5 s, each with the label of"
            " its recording",
            *(path, whole.sum()),
        )
    return heard


def digest_recordings(files: Iterable[str]) -> dict[str, str]:
    """What tells recordings apart, by file, and says nothing of them."""
    return {file: file_digest(Path(file))[:DIGITS] for file in files}


def check_unheard(path: Path | str, provenance: dict[str, Any]) -> None:
    """Refuses a table with recordings that a model, or its base, learned from.

    As far as they are known: ``qlung adapt`` tells what they are.
    """
    learned: set[str] = set()
    origin: dict[str, Any] | None = provenance
    while origin:
        learned.update((origin.get("data") or {}).get(LEARNED_FROM, ()))
        origin = origin.get("base")
    if not learned:
        return
    files = read_labelled_table(path, notes=[])["path"].unique()
    digests = digest_recordings(files)
    heard = [file for file in files if digests[file] in learned]
    if heard:
        raise ValueError(
            f"{path}: the model learned from {len(heard)} of its {len(files)}"
            f" recordings: {some(heard)}; leave these patients out, as of them"
            " it says too much"
        )


def order_labels(found: Iterable[str], known: Sequence[str]) -> list[str]:
    """Normal first, then those that the model knows in its order, then others.

    Example
    -------
    >>> order_labels(["rub", "both", "normal"], ["normal", "crackle", "both"])
    ['normal', 'both', 'rub']
    """
    names = set(found)
    there = [label for label in known if label in names]
    order = [*there, *sorted(names - set(known))]
    return sorted(order, key=lambda label: label != NORMAL)


def doubts(cycles: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    """What makes figures of so few patients, or of a class, unsure."""
    patients = cycles.groupby("label")["patient"].nunique()
    total, told = cycles["patient"].nunique(), []
    if total < FEW_PATIENTS:
        told.append(
            f"{total} patients are few: with less than {FEW_PATIENTS}, neither"
            " the figures nor their intervals tell what to expect"
        )
    rare = [
        f"{label} ({patients[label]} patient{'' if patients[label] == 1 else 's'})"
        for label in labels
        if 0 < patients.get(label, 0) < FEW_OF_CLASS
    ]
    if rare:
        told.append(
            "classes of so few patients that what is said of them is hardly"
            f" known: {', '.join(rare)}"
        )
    missing = [label for label in labels if label not in patients]
    if missing:
        told.append(f"no cycle is of the class {', '.join(missing)}")
    return told


def describe_table(
    cycles: pd.DataFrame, path: Path | str, protocol: str
) -> dict[str, Any]:
    """The data of a table, as a ``model.json`` tells them."""
    path = Path(path)
    counts = cycles["label"].value_counts()
    return {
        "database": path.name,
        "subset": None,
        "recordings": int(cycles["recording"].nunique()),
        "protocol": protocol,
        "partition": "all patients",
        "partitions": {
            "all": {
                "patients": int(cycles["patient"].nunique()),
                "recordings": int(cycles["recording"].nunique()),
                "cycles": len(cycles),
                "counts": {name: int(n) for name, n in counts.items()},
            }
        },
        "manifests": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()},
    }
