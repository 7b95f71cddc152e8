"""Files that are written as a whole or not at all.

Authors
 * qlung_plugin contributors
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_json(obj: object, path: Path | str) -> None:
    """Writes JSON in the order of the keys, NaN as null; see :func:`replacing`.

    The object is of nested dicts, lists, texts and numbers, also of NumPy.
    """
    text = json.dumps(plain(obj), indent=2, allow_nan=False)
    write_text(text + "\n", path)


def write_text(text: str, path: Path | str) -> None:
    """Writes a text file; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_figure(figure: "Figure", path: Path | str) -> None:
    """Writes a figure in the format that the path ends in, such as ``.png``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with replacing(path) as temporary:
        if temporary.suffix == ".png":
            # Draws once; savefig draws twice, to the same bytes.
            FigureCanvasAgg(figure).print_png(temporary)
        else:
            figure.savefig(temporary)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A file beside ``path`` that takes its place once it is complete.

    Its folder is made. If writing fails, ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def plain(obj: Any) -> Any:
    """The object in Python's own types, with None for NaN."""
    if isinstance(obj, dict):
        return {key: plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [plain(value) for value in obj]
    if isinstance(obj, (np.generic, np.ndarray)):
        return plain(obj.tolist())
    return None if isinstance(obj, float) and np.isnan(obj) else obj
