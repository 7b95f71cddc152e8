"""The models that ship with this package, a folder each.

Each is what ``qlung export`` wrote; the commands that made them are in the README
of the recipe for ICBHI.

Authors
 * qlung_plugin contributors
"""

import logging  # not SpeechBrain's, which `qlung --help` would wait for
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
TRANSFER, ICBHI = "transfer", "icbhi"
# What each was made for, in words.
MODELS = {
    TRANSFER: "made for recordings of a device that it never heard",
    ICBHI: "made for recordings like those of ICBHI 2017",
}


def is_shipped(source: str | Path) -> bool:
    """Whether a source of a model is the name of one that ships."""
    return isinstance(source, str) and source in MODELS


def find_shipped(source: str | Path) -> str | Path:
    """The folder of a model that ships, if the source names one; else itself.

    A name means the same wherever one is: a folder that is called like it is
    ``./transfer``, or a Path.
    """
    if not is_shipped(source):
        return source
    if Path(source).is_dir():
        logger.warning(
            "%s is taken for the model that ships with qlung_plugin: the"
            " folder of that name is ./%s",
            source,
            source,
        )
    return FOLDER / source


def describe_shipped(name: str) -> str:
    """What a model that ships is, and what it is not, in a line."""
    return (
        f"the model {name}, which ships with qlung_plugin, was trained on ICBHI"
        f" 2017 and is {MODELS[name]}; for research, no medical device; its"
        f" figures and limits: {FOLDER / name / 'README.md'}"
    )
