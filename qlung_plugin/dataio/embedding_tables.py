"""Tables of embeddings: a row per cycle or recording, and columns ``e_0`` ...

They are CSV, with which the others are written, too; NPZ, with an array
``embeddings`` and one per other column; or Parquet, for which pyarrow is needed.
None needs torch, or pickle.

Authors
 * qlung_plugin contributors
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from qlung_plugin.utils.files import replacing

FORMATS = (".csv", ".npz", ".parquet")
FLOAT = "%.9g"  # digits that tell numbers of single precision apart
TEXTS = ("recording", "prediction")
ROWS_AT_ONCE = 10_000


def check_format(path: Path | str) -> str:
    """The suffix of a table of embeddings; a ValueError if it cannot be one."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"{path} is no table of embeddings: its name must end in"
            f" {', '.join(FORMATS)}"
        )
    if suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise ValueError(
            f'{path} needs pyarrow: pip install "qlung_plugin[parquet]", or'
            " name it .npz or .csv"
        )
    return suffix


def read_embeddings(path: Path | str) -> pd.DataFrame:
    """Reads a table that ``qlung embed`` wrote, in any of its formats.

    Arguments
    ---------
    path : str or Path
        The file, which ends in one of :data:`FORMATS`.

    Returns
    -------
    pandas.DataFrame
        A row per cycle or recording: ``recording``, ``start``, ``end``,
        ``prediction``, ``p_<label>``, ``quality`` and so on, and ``e_0`` ... in
        single precision.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is no such table, or Parquet without pyarrow.

    Example
    -------
    >>> path = getfixture("tmp_path") / "e.csv"
    >>> _ = path.write_text("recording,start,end,e_0,e_1\\na.wav,0,1,0.5,2\\n")
    >>> read_embeddings(path)["e_1"].tolist()
    [2.0]
    """
    suffix = check_format(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file")
    try:
        if suffix == ".parquet":
            table = pd.read_parquet(path)
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                columns = {name: arrays[name] for name in arrays}
            embeddings = columns.pop("embeddings")
            names = [f"e_{i}" for i in range(embeddings.shape[1])]
            table = pd.DataFrame(columns).join(
                pd.DataFrame(embeddings, columns=names)
            )
        else:
            table = pd.concat(_read_rows(path))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{path} is no table of embeddings that can be read: {error}"
        ) from error
    lacking = [
        name
        for name in ("recording", "start", "end", "e_0")
        if name not in table
    ]
    if lacking:
        raise ValueError(
            f"{path} is no table of embeddings: it lacks {', '.join(lacking)}"
        )
    return table


def embedding_columns(table: pd.DataFrame) -> list[str]:
    """The columns of the embeddings."""
    names = (f"e_{i}" for i in range(table.shape[1]))
    return [name for name in names if name in table]


def write_rows(table: pd.DataFrame, path: Path | str) -> None:
    """Writes a table as CSV, with as many digits as there are."""
    with replacing(path) as temporary:
        table.to_csv(
            temporary, index=False, float_format=FLOAT, lineterminator="\n"
        )


def convert_rows(source: Path | str, path: Path | str) -> None:
    """Writes a CSV, see :func:`write_rows`, as NPZ or Parquet.

    Parquet is written in pieces; NPZ takes the memory of the embeddings.
    """
    if check_format(path) == ".npz":
        table = pd.concat(_read_rows(source))
        names = embedding_columns(table)
        columns = {
            name: table[name].to_numpy(str if name in TEXTS else None)
            for name in table.columns.drop(names)
        }
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, embeddings=table[names].to_numpy(), **columns)
        return
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    pieces = _read_rows(source)
    first = pyarrow.Table.from_pandas(next(pieces), preserve_index=False)
    with (
        replacing(path) as temporary,
        ParquetWriter(temporary, first.schema) as writer,
    ):
        writer.write_table(first)
        for piece in pieces:
            writer.write_table(
                pyarrow.Table.from_pandas(
                    piece, first.schema, preserve_index=False
                )
            )


def _read_rows(path: Path | str) -> Iterator[pd.DataFrame]:
    """Yields pieces of a CSV; of one without a row, that with its columns."""
    columns = pd.read_csv(path, nrows=0).columns
    kinds: dict = dict.fromkeys(columns, np.float64)
    kinds.update({name: np.float32 for name in columns if name[:2] == "e_"})
    kinds.update({name: str for name in TEXTS if name in kinds})
    if "truncated" in kinds:
        kinds["truncated"] = np.int64
    # A label may be called NA.
    with pd.read_csv(
        path,
        dtype=kinds,
        keep_default_na=False,
        na_values={n: [""] for n in columns if n not in TEXTS},
        chunksize=ROWS_AT_ONCE,
    ) as pieces:
        yield from pieces
