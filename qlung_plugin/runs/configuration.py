"""What the results of a script depend on, and how two such states differ.

A configuration is a flat dict of plain values: what every key of a resolved
YAML says, by its place (``loss.margin_loss.scale``).

Authors
 * qlung_plugin contributors
"""

import dataclasses
import hashlib
import os
from pathlib import Path

from hyperpyyaml import resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from speechbrain.utils.run_opts import RunOptions

from qlung_plugin.runs.hparams import read_hparams

_COMPARED = "the manifests and the sound are compared instead"
_PLACE = "where something is kept"
_SHOWN = "what is shown and logged"
_SAVED = "when a checkpoint is saved: a resumed training ends the same"
_MACHINE = "how it is computed, as on another machine"

# What may be otherwise when a script goes on in its folder, and why: no result
# depends on it. A key stands for all that is below it, and for every key that
# ends in it.
ALLOWED = {
    "data_folder": _COMPARED,
    "annotation_folder": _COMPARED,
    "manifest_folder": _COMPARED,
    "train_annotation": _COMPARED,
    "valid_annotation": _COMPARED,
    "test_annotation": _COMPARED,
    "recordings_annotation": _COMPARED,
    "split_file": _COMPARED,
    "fold_file": _COMPARED,
    "skip_prep": _COMPARED,
    "prepare": _COMPARED,
    "strict": "a check, which was passed",
    "trust": "who vouches for the model",
    "output_folder": _PLACE,
    "save_folder": _PLACE,
    "validation_folder": _PLACE,
    "cache_folder": _PLACE,
    "checkpoints_dir": _PLACE,
    "tested_on": _SHOWN,
    "published": _SHOWN,
    "train_log": _SHOWN,
    "train_logger": _SHOWN,
    "noprogressbar": _SHOWN,
    "tqdm_colored_bar": _SHOWN,
    "tqdm_barcolor": _SHOWN,
    "log_config": _SHOWN,
    "profile_training": _SHOWN,
    "profile_warmup": _SHOWN,
    "profile_steps": _SHOWN,
    "ckpt_interval_minutes": _SAVED,
    "ckpt_interval_steps": _SAVED,
    "num_workers": _MACHINE,
    "device": _MACHINE,
    "distributed_backend": _MACHINE,
    "find_unused_parameters": _MACHINE,
    "number_of_epochs": "upwards: the epochs before are the same",
    "epoch_counter.limit": "upwards: the epochs before are the same",
}
UPWARDS = ("number_of_epochs", "epoch_counter.limit")


def resolve_yaml(hparams_file, overrides):
    """Reads a HyperPyYAML of which nothing is made.

    Arguments
    ---------
    hparams_file : str or Path
        The YAML.
    overrides : str
        What the command line changed in it.

    Returns
    -------
    ruamel.yaml.comments.CommentedMap
        Nodes by key; what is referred to is there, the tags are.

    Raises
    ------
    ValueError
        If it is no YAML of keys, or an override does not fit it.
    """
    try:
        text = resolve_references(read_hparams(hparams_file), overrides, True)
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


def parse_yaml(text, origin):
    """Reads a YAML that is resolved, of which nothing is made or called.

    Arguments
    ---------
    text : str
        The YAML.
    origin : str or Path
        Where it comes from, for the message.

    Returns
    -------
    ruamel.yaml.comments.CommentedMap
        See :func:`resolve_yaml`.

    Raises
    ------
    ValueError
        If it is no YAML of keys.
    """
    try:
        keys = YAML().load(text)
    # Such as of a date that is none.
    except (YAMLError, ValueError, LookupError) as error:
        raise ValueError(f"{origin} is no YAML: {error}") from error
    if not isinstance(keys, dict):
        raise ValueError(f"{origin} holds no keys with values")
    return keys


def flatten(keys):
    """The configuration that a resolved YAML is.

    A value that names a file is compared by what the file holds. What occurs
    twice, by a reference, is told where it occurs first.

    Arguments
    ---------
    keys : ruamel.yaml.comments.CommentedMap
        From :func:`resolve_yaml`.

    Returns
    -------
    dict
        Plain values by place.

    Example
    -------
    >>> flatten(YAML().load("a: !new:b.C {d: [1, 2], e: {}}"))
    {'a': '!new:b.C', 'a.d': [1, 2], 'a.e': {}}
    """
    flat, seen = {}, {}
    for key, node in keys.items():
        _flatten(node, str(key), flat, seen)
    return flat


def _flatten(node, place, flat, seen):
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


def _plain(value, place):
    """A scalar of ruamel.yaml in Python's own types."""
    if isinstance(value, (bool, ScalarBoolean)):
        return bool(value)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    text = str(value)
    # Only what looks like a file: "official" may be one by chance.
    if "." in text and not _is_allowed(place) and os.path.isfile(text):
        return f"{Path(text).name} (sha256 {digest_file(text)})"
    if place.endswith("run_folder"):
        return os.path.realpath(text)
    return text


def digest_file(path):
    """SHA-256 of a file, hexadecimal, a block at a time."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def file_checksums(paths):
    """SHA-256 of files, so that a result tells what it was computed from.

    Arguments
    ---------
    paths : list of str or Path
        The files.

    Returns
    -------
    dict
        Hexadecimal digests by file name.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test.json"
    >>> _ = path.write_text("{}")
    >>> file_checksums([path])["test.json"][:8]
    '44136fa3'
    """
    return {Path(path).name: digest_file(path) for path in paths}


def run_options(run_opts, keys):
    """What SpeechBrain's own options change of a configuration.

    Arguments
    ---------
    run_opts : speechbrain.utils.run_opts.RunOptions
        From the command line.
    keys : dict
        The YAML's, of which some are options of SpeechBrain, too.

    Returns
    -------
    dict
        Those that were given and are not as without them; and the number of
        processes.

    Example
    -------
    >>> import speechbrain as sb
    >>> arguments = ["a.yaml", "--precision", "bf16", "--max_grad_norm", "5.0"]
    >>> run_options(sb.parse_arguments(arguments)[1], {})
    {'precision': 'bf16', 'processes': 1}
    """
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


def find_differences(before, now):
    """How a configuration differs from what a folder was made with.

    Arguments
    ---------
    before, now : dict
        Configurations.

    Returns
    -------
    refused : list of str
        A line for each difference that a result depends on.
    told : list of str
        A line for each difference that may be, but the user should know.

    Example
    -------
    >>> before = {"lr": 0.1, "opt_class.lr": 0.1, "number_of_epochs": 2}
    >>> now = {"lr": 0.2, "opt_class.lr": 0.2, "number_of_epochs": 3}
    >>> for lines in find_differences(before, now):
    ...     print(lines)
    ['lr, opt_class.lr: it was 0.1, now it is 0.2']
    ['number_of_epochs: it was 2, now it is 3']
    """
    # One option may show at several places: it is told once.
    places = {}
    for key in [*before, *(key for key in now if key not in before)]:
        if _is_allowed(key) and key not in UPWARDS:
            continue
        # What a later version added, and is not used.
        if key.isidentifier() and before.get(key) is now.get(key) is None:
            continue
        was, becomes = _say(before, key), _say(now, key)
        if was != becomes:
            places.setdefault((was, becomes), []).append(key)
    refused, told = [], []
    for (was, becomes), keys in places.items():
        line = f"{', '.join(keys)}: it was {was}, now it is {becomes}"
        allowed = all(_has_grown(key, before, now) for key in keys)
        (told if allowed else refused).append(line)
    return refused, told


def _say(configuration, key):
    if key not in configuration:
        return "not there"
    value = configuration[key]
    return "null" if value is None else str(value)


def _has_grown(key, before, now):
    both = before.get(key), now.get(key)
    whole = all(type(number) is int for number in both)
    return key in UPWARDS and whole and both[0] < both[1]


def _is_allowed(key):
    first, last = key.split(".")[0], key.split(".")[-1]
    return not {key, first, last}.isdisjoint(ALLOWED)
