"""What the results of a script depend on, and how two such states differ.

A configuration is a flat dict of plain values: what every key of a resolved
YAML says, by its place (``loss.margin_loss.scale``).

Authors
 * qlung_plugin contributors
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hyperpyyaml import resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from qlung_plugin.runs.hparams import read_hparams, whole_keys
from qlung_plugin.utils.ordinary_files import read_ordinary
from speechbrain.utils.run_opts import RunOptions

UPWARDS = ("number_of_epochs", "epoch_counter.limit")
# What may be otherwise when a script goes on in its folder, by reason: no
# result depends on it. A key stands for all that is below it, and for every key
# that ends in it.
MAY_DIFFER = {
    "the manifests and the sound are compared instead": (
        "data_folder annotation_folder manifest_folder train_annotation"
        " valid_annotation test_annotation recordings_annotation split_file"
        " fold_file skip_prep prepare"
    ),
    "a check, which was passed": "strict",
    "who vouches for the model": "trust",
    "where something is kept": (
        "output_folder save_folder validation_folder cache_folder"
        " checkpoints_dir"
    ),
    "what is shown and logged": (
        "tested_on published train_log train_logger noprogressbar"
        " tqdm_colored_bar tqdm_barcolor log_config profile_training"
        " profile_warmup profile_steps"
    ),
    "when a checkpoint is saved: a resumed training ends the same": (
        "ckpt_interval_minutes ckpt_interval_steps"
    ),
    "how it is computed, as on another machine": (
        "num_workers multiprocessing_context persistent_workers device"
        " distributed_backend find_unused_parameters compile compile_mode"
        " compile_module_keys compile_using_fullgraph"
        " compile_using_dynamic_shape_tracing"
    ),
    "upwards: the epochs before are the same": " ".join(UPWARDS),
}
ALLOWED = frozenset(" ".join(MAY_DIFFER.values()).split())


def resolve_yaml(hparams_file: Path | str, overrides: str) -> CommentedMap:
    """Reads a HyperPyYAML, with what the command line changes; nothing is made."""
    try:
        with whole_keys():
            text = resolve_references(
                read_hparams(hparams_file), overrides, True
            )
    except KeyError as error:
        # "Override 'x' not found in: ", and a hundred names
        name = str(error.args[0]).split("'")[1]
        raise ValueError(
            f"{name} is no option of {hparams_file}: --help lists them"
        ) from error
    except YAMLError as error:
        raise ValueError(
            f"{hparams_file}, or an option, is no YAML: {error}"
        ) from error
    return parse_yaml(text, hparams_file)


def parse_yaml(text: str, origin: Path | str) -> CommentedMap:
    """Reads a YAML that is resolved, of which nothing is made or called."""
    try:
        keys = YAML().load(text)
    # Such as of a date that is none.
    except (YAMLError, ValueError, LookupError) as error:
        raise ValueError(f"{origin} is no YAML: {error}") from error
    if not isinstance(keys, CommentedMap):
        raise ValueError(f"{origin} holds no keys with values")
    return keys


def read_yaml(path: Path | str) -> CommentedMap:
    """Reads a file that holds a resolved YAML; see :func:`parse_yaml`."""
    return parse_yaml(read_ordinary(path), path)


def yaml_tag(node: object) -> str:
    """The tag of a node of ruamel.yaml that has one of its own, else ""."""
    tag = getattr(node, "tag", None)
    return str(tag.value) if tag is not None and tag.value else ""


def plain_scalar(value: object) -> bool | int | float | str | None:
    """A scalar of ruamel.yaml in Python's own types."""
    if isinstance(value, (bool, ScalarBoolean)):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return None if value is None else str(value)


def flatten(keys: CommentedMap) -> dict[str, Any]:
    """The configuration that a resolved YAML is: plain values by place.

    A value that names a file is compared by what the file holds. What occurs
    twice, by a reference, is told where it occurs first.

    Example
    -------
    >>> flatten(YAML().load("a: !new:b.C {d: [1, 2], e: {}}"))
    {'a': '!new:b.C', 'a.d': [1, 2], 'a.e': {}}
    """
    flat: dict[str, Any] = {}
    seen: dict[int, str] = {}
    for key, node in keys.items():
        _flatten(node, str(key), flat, seen)
    return flat


def _flatten(
    node: Any, place: str, flat: dict[str, Any], seen: dict[int, str]
) -> None:
    if isinstance(node, (CommentedMap, CommentedSeq, TaggedScalar)):
        if id(node) in seen:
            flat[place] = f"the same as {seen[id(node)]}"
            return
        seen[id(node)] = place
        tag = node.tag.value
    else:
        tag = None
    if isinstance(node, TaggedScalar):
        flat[place] = f"{tag} {node.value or ''}".strip()
        return
    if tag is not None:
        flat[place] = tag
    if isinstance(node, dict):
        if not node and tag is None:
            flat[place] = {}
        for key, value in node.items():
            _flatten(value, f"{place}.{key}", flat, seen)
    elif isinstance(node, list):
        nested = any(isinstance(n, (dict, list, TaggedScalar)) for n in node)
        if tag is None and not nested:
            flat[place] = [_plain(value, place) for value in node]
            return
        for number, value in enumerate(node):
            _flatten(value, f"{place}[{number}]", flat, seen)
    else:
        flat[place] = _plain(node, place)


def _plain(value: Any, place: str) -> Any:
    """A scalar, of a file what it holds."""
    text = plain_scalar(value)
    if not isinstance(text, str):
        return text
    # Only what looks like a file: "official" may be one by chance.
    if "." in text and not _is_allowed(place) and os.path.isfile(text):
        return f"{Path(text).name} (sha256 {digest_file(text)})"
    if place.endswith("run_folder"):
        return os.path.realpath(text)
    return text


def digest_file(path: Path | str) -> str:
    """SHA-256 of a file, hexadecimal, a block at a time."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def file_checksums(paths: Iterable[Path | str]) -> dict[str, str]:
    """SHA-256 by file name: a result tells what it was computed from."""
    return {Path(path).name: digest_file(path) for path in paths}


def run_options(
    run_opts: RunOptions, keys: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of SpeechBrain's own that change something; and processes."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(RunOptions)
        if field.name not in ("param_file", "overridden_args")
    }
    given = {
        name: run_opts[name]
        for name in sorted(run_opts.overridden_args & defaults.keys())
        if name in keys or run_opts[name] != defaults[name]
    }
    return {**given, "processes": int(os.environ.get("WORLD_SIZE", "1"))}


def find_differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """How a configuration differs from what a folder was made with.

    Lines for what a result depends on, and for what the user should know.
    """
    # One option may show at several places: it has one line.
    places: dict[tuple[str, str], list[str]] = {}
    for key in [*before, *(key for key in now if key not in before)]:
        if _is_allowed(key) and key not in UPWARDS:
            continue
        # What a later version added, and is not used.
        if key.isidentifier() and before.get(key) is now.get(key) is None:
            continue
        was, becomes = _shown(before, key), _shown(now, key)
        if was != becomes:
            places.setdefault((was, becomes), []).append(key)
    refused: list[str] = []
    allowed: list[str] = []
    for (was, becomes), keys in places.items():
        line = f"{', '.join(keys)}: it was {was}, now it is {becomes}"
        grown = all(_has_grown(key, before, now) for key in keys)
        (allowed if grown else refused).append(line)
    return refused, allowed


def _shown(configuration: Mapping[str, Any], key: str) -> str:
    if key not in configuration:
        return "not there"
    value = configuration[key]
    return "null" if value is None else str(value)


def _has_grown(
    key: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> bool:
    was, becomes = before.get(key), now.get(key)
    if key not in UPWARDS or type(was) is not int or type(becomes) is not int:
        return False
    return was < becomes


def _is_allowed(key: str) -> bool:
    first, last = key.split(".")[0], key.split(".")[-1]
    return not {key, first, last}.isdisjoint(ALLOWED)
