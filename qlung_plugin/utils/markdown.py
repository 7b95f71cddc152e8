"""Tables in Markdown.

Authors
 * qlung_plugin contributors
"""


def markdown_table(table):
    """A table in Markdown, its values as they are printed.

    Arguments
    ---------
    table : pandas.DataFrame
        Without its index.

    Returns
    -------
    str
        A line per row, the last one without its end.

    Example
    -------
    >>> import pandas as pd
    >>> print(markdown_table(pd.DataFrame({"measure": ["snr"], "n": [3]})))
    | measure | n |
    | --- | --- |
    | snr | 3 |
    """
    rows = [table.columns, ["---"] * table.shape[1], *table.to_numpy()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
