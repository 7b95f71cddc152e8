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


def complete_database(name: str) -> str:
    """The name of a database without its subset, from :func:`name_database`."""
    return name.split(",")[0]
