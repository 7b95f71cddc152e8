"""Tables in Markdown.

Authors
 * qlung_plugin contributors
"""

import pandas as pd


def markdown_table(table: pd.DataFrame) -> str:
    """A table without its index in Markdown, its values as they are printed.

    Example
    -------
    >>> print(markdown_table(pd.DataFrame({"measure": ["snr"], "n": [3]})))
    | measure | n |
    | --- | --- |
    | snr | 3 |
    """
    rows = [table.columns, ["---"] * table.shape[1], *table.to_numpy()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
