"""Labels of one's own for the rows of a table of cycles, windows or recordings.

Authors
 * qlung_plugin contributors
"""

from pathlib import Path

import pandas as pd

from qlung_plugin.dataio.cycle_tables import match_names
from qlung_plugin.dataio.fields import some
from qlung_plugin.dataio.labelled_table import read_labelled_table

CLOSE = 0.0101  # s: times are often rounded to a hundredth


def label_rows(
    table: pd.DataFrame, path: Path | str
) -> tuple[pd.DataFrame, list[str]]:
    """Finds the label and the patient of each row.

    Arguments
    ---------
    table : pandas.DataFrame
        With ``recording``, ``start`` and ``end`` in seconds, such as
        :func:`qlung_plugin.dataio.embedding_tables.read_embeddings` gives.
    path : str or Path
        A table of labels, as
        :func:`qlung_plugin.dataio.labelled_table.read_labelled_table` reads it
        without locating recordings. A name means a recording as in
        :meth:`qlung_plugin.dataio.cycle_tables.CycleTable.assign`. A label
        with times is of the row with the same to a hundredth of a second, one
        without of all rows of its recording.

    Returns
    -------
    labelled : pandas.DataFrame
        The rows that have one, with ``label`` and ``patient``.
    notes : list of str
        What is left out, in sentences with counts.

    Raises
    ------
    FileNotFoundError
        If there is no table of labels.
    ValueError
        If that is malformed, no label is of a row, or a row has several labels
        or patients; the message names file and row.

    Example
    -------
    >>> path = getfixture("tmp_path") / "labels.csv"
    >>> _ = path.write_text("recording,label,patient\\na.wav,crackle,7\\n")
    >>> times = {"start": [0.0, 1.0], "end": [1.0, 2.0]}
    >>> table = pd.DataFrame({"recording": "data/a.wav", **times})
    >>> label_rows(table, path)[0]["label"].tolist()
    ['crackle', 'crackle']
    """
    path = Path(path)
    labels = read_labelled_table(path, locate=False)
    names = {Path(name): name for name in table["recording"].unique()}
    meant = match_names(labels["path"].unique(), list(names), path)
    labels["recording"] = labels["path"].map(
        {name: names[recording] for name, recording in meant.items()}
    )
    notes, total = [], len(labels)
    strange = labels["recording"].isna()
    if strange.any():
        notes.append(
            f"{path}: {strange.sum()} of {total} rows are left out, whose"
            " recording is not among the embeddings:"
            f" {some(labels['path'][strange].unique().tolist())}"
        )
    labels = labels[~strange].astype({"recording": object})
    pairs = table[["recording", "start", "end"]].rename_axis("item")
    pairs = pairs.reset_index().merge(
        labels.rename_axis("row").reset_index(),
        on="recording",
        suffixes=("", "_given"),
    )
    near = (pairs["start"] - pairs["start_given"]).abs() < CLOSE
    near &= (pairs["end"] - pairs["end_given"]).abs() < CLOSE
    pairs = pairs[near | pairs["start_given"].isna()]
    if pairs.empty:
        raise ValueError(
            f"{path} labels none of the {len(table)} rows of the embeddings:"
            " recordings are to be called alike, and times to be the same"
        )
    for column in ("label", "patient"):
        several = pairs.groupby("item")[column].nunique() > 1
        if several.any():
            own = pairs[pairs["item"] == several.idxmax()]
            told = [f"row {r} ({x})" for r, x in zip(own["row"], own[column])]
            raise ValueError(
                f"{path}: {some(told)} give {own['recording'].iloc[0]} from"
                f" {own['start'].iloc[0]:g} to {own['end'].iloc[0]:g} s more"
                f" than one {column}"
            )
    unused = labels.index.difference(pairs["row"])
    if len(unused):
        notes.append(
            f"{path}: {len(unused)} of {total} rows are left out, whose"
            " times are of no row of the embeddings:"
            f" {some([f'row {row}' for row in unused])}"
        )
    found = pairs.drop_duplicates("item").set_index("item")
    labelled = table.loc[found.index].assign(
        label=found["label"], patient=found["patient"]
    )
    if len(labelled) < len(table):
        notes.append(
            f"{len(table) - len(labelled)} of {len(table)} rows of the"
            f" embeddings have no label in {path}"
        )
    return labelled, notes
