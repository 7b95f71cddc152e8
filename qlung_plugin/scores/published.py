"""Published results, to be set beside one's own and marked as what they are.

They are of the full databases. Most are of the best epoch by the test set, over
several seeds where a deviation is given.

Authors
-------
 * qlung_plugin contributors
"""

import pandas as pd

MARK = "published, full database"

ICBHI_OFFICIAL = "ICBHI official split"
SPRSOUND_INTER = "SPRSound inter"

SOURCES = {
    "QLung": "Kim et al., QLung, Interspeech 2026 (arXiv 2606.11915)",
    "Patch-Mix": "Bae et al., Interspeech 2023 (arXiv 2305.14032)",
    "BTS": "Kim et al., Interspeech 2024 (arXiv 2406.06786)",
    "LungAdapter": "Xiao et al., Interspeech 2024",
    "PAFA": "Jeong and Kim, 2025 (arXiv 2505.23834)",
    "Lung-SRAD": "Shridhar et al., 2026 (arXiv 2606.11922)",
}

# Method, specificity, sensitivity (exact class), score, in percent; source.
PUBLISHED = {
    ICBHI_OFFICIAL: """\
AST, cross entropy | 77.14 | 41.97 | 59.55 | QLung
AST + fixed angular margin | | | 59.72 ± 0.89 | QLung
AST + audio quality margin | | | 60.47 ± 0.96 | QLung
AST + class-imbalance margin | | | 60.56 ± 0.83 | QLung
QLung on AST (+ angular classifier) \
| 81.90 ± 5.38 | 42.12 ± 3.94 | 62.01 ± 1.18 | QLung
Patch-Mix CL (AST) | 81.66 | 43.07 | 62.37 | Patch-Mix
LungAdapter (AST) | 80.43 | 44.37 | 62.40 | LungAdapter
Audio-CLAP | 80.85 | 44.67 | 62.56 | BTS
QLung on Audio-CLAP | 81.98 ± 3.82 | 44.81 ± 3.47 | 63.39 ± 0.40 | QLung
BTS (CLAP + metadata text) | 81.40 | 45.67 | 63.54 | BTS
Lung-SRAD (state-space model) | 79.53 | 49.42 | 64.48 ± 0.25 | Lung-SRAD
PAFA (BEATs) | 82.05 | 47.63 | 64.84 | PAFA
""",
    # Trained on ICBHI alone. The figures of single runs are exact fractions of
    # the 1,040 normal and 389 abnormal events of 2022's inter-patient test set.
    SPRSOUND_INTER: """\
Patch-Mix CL | 62.69 | 39.33 | 51.01 | QLung
SG-SCL | 81.06 | 22.62 | 51.84 | QLung
BTS | 67.50 | 39.33 | 53.42 | QLung
Audio-CLAP | 70.67 | 41.90 | 56.29 | QLung
QLung on AST | 82.48 ± 8.35 | 33.99 ± 8.21 | 58.23 ± 3.83 | QLung
QLung on Audio-CLAP | 74.71 ± 4.04 | 44.88 ± 2.98 | 59.80 ± 3.51 | QLung
""",
}


def published_results(benchmark: str) -> pd.DataFrame:
    """The published results of a benchmark of :data:`PUBLISHED`, as text.

    Columns ``method``, ``sp``, ``se`` (exact class), ``score`` (percent, with a
    standard deviation over seeds where one was published; empty where nothing
    was) and ``source``.
    """
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in PUBLISHED[benchmark].splitlines()
    ]
    table = pd.DataFrame(
        rows, columns=["method", "sp", "se", "score", "source"]
    )
    return table.replace({"source": SOURCES})
