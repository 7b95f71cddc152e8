"""SpeechBrain's docstrings, as the site's generator reads them.

Its parser knows numpy's sections, which SpeechBrain's style names otherwise, and
Markdown, in which a role of reStructuredText means nothing.

Authors
 * qlung_plugin contributors
"""

import re
from collections.abc import Mapping
from typing import Any

from griffe import Class, Extension, Object

SECTIONS = {"Arguments": "Parameters", "Example": "Examples"}
# A named tuple's arguments are all that it has.
OF_A_TUPLE = {**SECTIONS, "Arguments": "Attributes"}
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)})\n-+$", re.MULTILINE)
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`")
_AUTHORS = re.compile(r"\n+Authors\n(?: \* .*\n?)+\Z")


def as_numpy(text: str, sections: Mapping[str, str] = SECTIONS) -> str:
    r"""A docstring with numpy's names of sections, in Markdown.

    Example
    -------
    >>> as_numpy(
    ...     "Of :func:`x`.\n\nArguments\n---------\ny : int\n    A number."
    ... )
    'Of `x`.\n\nParameters\n----------\ny : int\n    A number.'
    """

    def renamed(match: re.Match[str]) -> str:
        name = sections[match[1]]
        return f"{name}\n{'-' * len(name)}"

    return _ROLE.sub(r"`\1`", _SECTION.sub(renamed, _AUTHORS.sub("", text)))


class SpeechBrainDocstrings(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called of each module, class, function and attribute."""
        if obj.docstring:
            bases = map(str, obj.bases) if isinstance(obj, Class) else ()
            sections = OF_A_TUPLE if "NamedTuple" in bases else SECTIONS
            obj.docstring.value = as_numpy(obj.docstring.value, sections)
