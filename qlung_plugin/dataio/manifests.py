"""Manifests of a database's cycles: their entries, writing and reading them.

Authors
 * qlung_plugin contributors
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from qlung_plugin.utils.files import write_json
from qlung_plugin.utils.ordinary_files import LARGEST_TABLE, read_json
from qlung_plugin.utils.text import printable

# Python's own: a preparation runs in one process, and what reads annotations
# without SpeechBrain starts in a tenth of the time.
logger = logging.getLogger(__name__)

Cycle = dict[str, Any]  # as qlung_plugin.dataio.locating describes it
Entries = dict[str, dict[str, Any]]  # by id


def make_manifest(
    cycles: Iterable[Mapping[str, Any]],
    data_folder: Path,
    facts: Collection[str],
) -> Entries:
    """The manifest's entries of cycles, which were located, by id.

    The facts are the keys of a cycle that are told as they are; ``{data_root}``
    stands for the data folder, and a recording elsewhere has its whole path.
    """
    facts = tuple(facts)
    return {cycle["id"]: _entry(cycle, data_folder, facts) for cycle in cycles}


def _entry(
    cycle: Mapping[str, Any], data_folder: Path, facts: Collection[str]
) -> dict[str, Any]:
    path, root = cycle["wav"].as_posix(), ""
    if cycle["wav"].is_relative_to(data_folder):
        path, root = (
            cycle["wav"].relative_to(data_folder).as_posix(),
            "{data_root}/",
        )
    if "{" in path or "}" in path:
        # SpeechBrain fills in {data_root} by str.format_map.
        raise ValueError(f"{cycle['wav']}: rename it to a path without {{}}")
    start, stop, rate = cycle["start"], cycle["stop"], cycle["sample_rate"]
    wav = {"file": f"{root}{path}", "start": start, "stop": stop}
    if "channels" in cycle:
        wav["channels"] = cycle["channels"]
    return {
        "wav": wav,
        "sample_rate": rate,
        "duration": (stop - start) / rate,
        **{fact: cycle[fact] for fact in facts},
    }


def write_manifests(
    output_folder: Path,
    manifests: Mapping[str, Entries],
    summary_name: str,
    summary: dict[str, Any],
) -> None:
    """Writes manifests, by file name, and the summary, which is logged."""
    # The summary comes last: it must not describe manifests yet to be written.
    for name, content in {**manifests, summary_name: summary}.items():
        write_json(content, output_folder / name)
    log_summary(summary)


def log_summary(summary: dict[str, Any]) -> None:
    """Logs what was prepared, and what was odd about it."""
    subset = summary["subset"] or f"{summary['recordings']} recordings"
    logger.info("%s: %s, %s", summary["database"], subset, summary["protocol"])
    for name, count in summary["partitions"].items():
        logger.info("%s: %s", name, count)
    if summary.get("patients_on_both_sides"):
        patients = ", ".join(summary["patients_on_both_sides"])
        logger.warning("patients on both sides of the split: %s", patients)
    for warning in summary["warnings"]:
        logger.warning(printable(warning))


def read_summary(
    output_folder: Path | str, manifests: Iterable[str], summary_name: str
) -> dict[str, Any]:
    """The summary of an earlier call, if its manifests are there."""
    output_folder = Path(output_folder).resolve()
    names = (*manifests, summary_name)
    missing = [name for name in names if not (output_folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"skip_prep is set, but {output_folder} lacks {', '.join(missing)}"
        )
    return read_json(output_folder / summary_name)


def read_manifest(path: Path | str, data_folder: Path | str) -> Entries:
    """The entries of a manifest, with the data's folder in their paths."""
    # Here, because annotations are read without it, and it takes seconds.
    from speechbrain.dataio.dataio import load_data_json

    # SpeechBrain hangs where it is a FIFO, and takes an id twice.
    entries = read_json(path, LARGEST_TABLE)
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("wav"), dict)
        for entry in entries.values()
    ):
        raise ValueError(f"{path} is no manifest: entries with wav by their id")
    return load_data_json(path, {"data_root": str(data_folder)})
