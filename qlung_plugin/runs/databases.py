"""How results name the database that they are of.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Mapping
from typing import Any


def name_database(data: Mapping[str, Any]) -> str:
    """The name of a ``database``, and which ``subset`` of it was there."""
    subset = data.get("subset")  # a model's own training may not say
    return data["database"] + (f", subset ({subset})" if subset else "")


def patients_on_both_sides(data: Mapping[str, Any]) -> list[str]:
    """Those whom a training's own test side shares with what it trained on."""
    if data.get("training"):  # of another database
        return []
    return list(data.get("patients_on_both_sides") or ())


def complete_database(name: str) -> str:
    """The name of a database without its subset, from :func:`name_database`."""
    return name.split(",")[0]
