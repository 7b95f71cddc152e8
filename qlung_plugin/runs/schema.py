"""What the files of a run folder hold: their keys, types and ranges.

The one place for all that read a run folder, which may be damaged, altered or a
stranger's. A table of predictions is checked where it is read, in
:mod:`qlung_plugin.runs.predictions`.

Authors
 * qlung_plugin contributors
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from qlung_plugin.utils.files import plain
from qlung_plugin.utils.ordinary_files import LARGEST_TEXT, read_json

LONGEST = 2000  # characters of a text
EXCERPT = 60  # characters of a value in a message
LONGEST_CYCLE = 600  # s, for a sound and a picture of it
HIGHEST_RATE = 192_000  # Hz


class Kind(NamedTuple):
    """What a value is to be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


class Nullable(NamedTuple):
    """A rule for what may be null."""

    rule: "Rule"


# A dict has a rule per key, or one for all under ANY; a list that of its items.
Rule: TypeAlias = Kind | Nullable | dict[Any, Any] | list[Any]


def number(low: float, high: float) -> Kind:
    """A number in [low, high]."""
    return Kind(
        f"a number from {low:g} to {high:g}",
        lambda value: isinstance(value, (int, float))
        and not isinstance(value, bool)
        and low <= value <= high,
    )


def whole(low: int, high: int) -> Kind:
    """A whole number in [low, high]."""
    return Kind(
        f"a whole number from {low:,} to {high:,}",
        lambda value: isinstance(value, int) and number(low, high).holds(value),
    )


TEXT = Kind(
    f"a text of up to {LONGEST:,} characters",
    lambda value: isinstance(value, str) and len(value) <= LONGEST,
)
NAME = Kind(
    "a name that can be printed",
    lambda value: isinstance(value, str)
    and 0 < len(value) <= LONGEST
    and value.isprintable(),
)
LIST = Kind("a list", lambda value: isinstance(value, list))
OBJECT = Kind("an object with keys", lambda value: isinstance(value, dict))
COUNT = whole(0, 10**9)
ANY = ...  # the key of a rule for all keys

# A key with a question mark may be missing, others may be there besides.
DATABASE = {"database": TEXT, "subset?": Nullable(TEXT)}
SUPERVISION = Nullable({"database": TEXT, "patients": [TEXT]})
TRAINED_ON = Nullable({**DATABASE, "quality_supervision?": SUPERVISION})
DATA = {
    **DATABASE,
    "subset": Nullable(TEXT),
    "protocol": TEXT,
    "partition?": TEXT,
    "split?": Nullable(TEXT),
    "recordings?": COUNT,
    "recordings_published?": Nullable(COUNT),
    "partitions?": {
        ANY: {
            "patients": COUNT,
            "recordings": COUNT,
            "cycles": COUNT,
            "counts": {ANY: COUNT},
        }
    },
    "patients_on_both_sides?": [TEXT],
    "quality_supervision?": SUPERVISION,
    "manifests?": {ANY: TEXT},
    "training?": Nullable(
        {
            "folder?": TEXT,
            "data?": TRAINED_ON,
        }
    ),
}
OFFSETS = {ANY: number(-1e3, 1e3)}  # by label, of an operating point
# Its figures are not here: they are compared with those of the predictions.
CHECKPOINT = {
    "epoch": whole(0, 10**6),
    "selection": TEXT,
    "counts": {ANY: COUNT},
    "operating_point?": Nullable({"offsets": OFFSETS}),
}
# What an exported model tells of its training, as far as it is shown.
PROVENANCE = {
    "checkpoint": TEXT,
    "epoch": whole(0, 10**6),
    "settings?": {},
    "results?": [
        {"score": Nullable(number(0, 100)), "selection": TEXT, "data": DATA}
    ],
}
# What an export takes of it, besides.
TRAINING = {
    "validated": Kind("true or false", lambda value: isinstance(value, bool)),
    "settings": {},
    "made_with": {"qlung_plugin": TEXT},
    "data": Nullable(DATA),
}
# Where the recordings of a run were, and its manifests.
CONFIGURATION = {
    "options": {
        "data_folder?": TEXT,
        "test_annotation?": Nullable(TEXT),
        "valid_annotation?": Nullable(TEXT),
    }
}
HISTORY = [{"epoch": whole(0, 10**6), ANY: Nullable(number(-1e12, 1e12))}]
EXPERIMENT = {
    "configuration": NAME,
    "seed": Kind(
        "a name or a whole number",
        lambda value: NAME.holds(value) or whole(0, 10**9).holds(value),
    ),
    "fold": Nullable(
        Kind(
            "the number of a fold or a device",
            lambda value: NAME.holds(value) or whole(0, 4).holds(value),
        )
    ),
}
# What the results of a script depend on; experiment.json tells it beforehand.
MADE_BY = {"script": TEXT, "options": {}, "run_options": {}}
MADE_WITH = {
    **MADE_BY,
    "manifests": {ANY: TEXT},
    "recordings": TEXT,
    "threads": whole(1, 10**6),
}
CYCLE = {
    "wav": {
        "file": TEXT,
        "start": whole(0, 10**12),
        "stop": whole(1, 10**12),
        "channels?": [whole(0, 10**4)],
    },
    "sample_rate": whole(1, HIGHEST_RATE),
}


def check(value: object, rule: Rule, where: Path | str, key: str = "") -> None:
    """Raises a ValueError that names the file and what breaks a rule in it."""
    if isinstance(rule, Nullable):
        if value is None:
            return
        rule = rule.rule
    kinds: dict[type, Kind] = {list: LIST, dict: OBJECT}
    kind: Any = kinds.get(type(rule), rule)
    if not kind.holds(value):
        what = f": {key} is" if key else " holds"
        raise ValueError(f"{where}{what} {excerpt(value)}, not {kind.words}")
    if isinstance(value, list) and isinstance(rule, list):
        for place, item in enumerate(value):
            check(item, rule[0], where, f"{key}[{place}]")
    if isinstance(value, dict) and isinstance(rule, dict):
        inside = f"{key}." if key else ""
        named = {name.rstrip("?"): name for name in rule if name is not ANY}
        for name, written in named.items():
            if name in value:
                check(value[name], rule[written], where, f"{inside}{name}")
            elif not written.endswith("?"):
                raise ValueError(f"{where} lacks {inside}{name}")
        for name in value.keys() - named.keys() if ANY in rule else ():
            check(value[name], rule[ANY], where, f"{inside}{name}")


def read_checked(
    path: Path, rule: Rule = {}, largest: int = LARGEST_TEXT
) -> Any:
    """Reads JSON strictly, from an ordinary file of bounded size; checks it."""
    content = read_json(path, largest)
    check(content, rule, path)
    return content


def excerpt(value: object) -> str:
    """The beginning of a value as Python writes it."""
    text = repr(value)
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."


def check_figures(
    written: dict[str, Any], computed: dict[str, Any], where: str, origin: str
) -> None:
    """Refuses ``metrics.json`` if predictions give other figures than it has."""
    for name, value in computed.items():
        if name not in written:
            raise ValueError(f"{where} lacks {name}")
        if _rounded(written[name]) != _rounded(value):
            raise ValueError(
                f"{where}: {name} is {excerpt(written[name])}, but {origin}"
                f" gives {excerpt(value)}: one of them is altered, or of"
                " another run"
            )


def _rounded(figures: Any) -> Any:
    """Figures as JSON has them, without the digits that machines differ in."""
    return json.loads(
        json.dumps(plain(figures)),
        parse_float=lambda text: round(float(text), 6),
    )


def check_cycle(entry: Any, key: str, path: Path) -> None:
    """Raises a ValueError if a manifest's entry does not say where it is."""
    check(entry, CYCLE, f"{path}: {key}")
    wav = entry["wav"]
    length = (wav["stop"] - wav["start"]) / entry["sample_rate"]
    if not 0 < length <= LONGEST_CYCLE:
        raise ValueError(
            f"{path}: {key} is from sample {wav['start']} to {wav['stop']},"
            f" which is not more than 0 s and up to {LONGEST_CYCLE} s"
        )
