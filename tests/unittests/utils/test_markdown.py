"""Tests of tables in Markdown.

Authors
 * qlung_plugin contributors
"""

import pandas as pd

from qlung_plugin.utils.markdown import markdown_table


def test_markdown_table_has_a_line_per_row():
    table = pd.DataFrame({"measure": ["aqs", "snr"], "area": ["0.5", "0.7"]})
    assert markdown_table(table).splitlines() == [
        "| measure | area |",
        "| --- | --- |",
        "| aqs | 0.5 |",
        "| snr | 0.7 |",
    ]
