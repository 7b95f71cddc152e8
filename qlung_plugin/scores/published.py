"""Published results, to be set beside one's own and marked as what they are.

They are of the full databases, each with the rule by which its epoch (and its
operating point, where it has one) was chosen: what is chosen on the test set
itself is 2 to 5 points higher for it. A deviation is over several seeds.

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
    "PC-MCL": "PC-MCL, 2026 (arXiv 2601.17080)",
    "ADD-RSC": "Dong et al., Interspeech 2025 (arXiv 2506.02505)",
    "repeat": "an independent repeat",
}

# How the epoch was chosen, as far as it is known.
SELECTIONS = {
    "test": "test set",
    "unstated": "test set or unstated",
    "patients": "held-out patients, the operating point too",
    "last": "none, the last epoch",
    "frozen": "none on the test set",
}

# Method, how it was selected, specificity, sensitivity (exact class), score, in
# percent; source.
PUBLISHED = {
    ICBHI_OFFICIAL: """\
AST, cross entropy | unstated | 77.14 | 41.97 | 59.55 | QLung
AST + fixed angular margin | unstated | | | 59.72 ± 0.89 | QLung
AST + audio quality margin | unstated | | | 60.47 ± 0.96 | QLung
AST + class-imbalance margin | unstated | | | 60.56 ± 0.83 | QLung
QLung on AST (+ angular classifier) \
| unstated | 81.90 ± 5.38 | 42.12 ± 3.94 | 62.01 ± 1.18 | QLung
Patch-Mix CL (AST) | test | 81.66 | 43.07 | 62.37 | Patch-Mix
LungAdapter (AST) | unstated | 80.43 | 44.37 | 62.40 | LungAdapter
Audio-CLAP | unstated | 80.85 | 44.67 | 62.56 | BTS
QLung on Audio-CLAP \
| unstated | 81.98 ± 3.82 | 44.81 ± 3.47 | 63.39 ± 0.40 | QLung
BTS (CLAP + metadata text) | unstated | 81.40 | 45.67 | 63.54 | BTS
Lung-SRAD (state-space model) \
| unstated | 79.53 | 49.42 | 64.48 ± 0.25 | Lung-SRAD
BTS-CARD | unstated | | | 64.63 ± 0.57 | BTS-CARD
PAFA (BEATs) | unstated | 82.05 | 47.63 | 64.84 ± 0.60 | PAFA
PC-MCL (BEATs) | unstated | | | 65.37 ± 0.73 | PC-MCL
ADD-RSC | unstated | | | 65.53 | ADD-RSC
CLAP, frozen | frozen | | | 51.9 | repeat
HeAR, frozen | frozen | | | 52.7 | repeat
AST, frozen | frozen | | | 54.7 | repeat
AST + Patch-Mix | last | | | 59.59 ± 0.47 | repeat
AST + Patch-Mix | test | | | 59.69 ± 0.51 | repeat
M2D2 | patients | | | 64.30 ± 0.73 | M2D2
""",
    # Trained on ICBHI alone. The figures of single runs are exact fractions of
    # the 1,040 normal and 389 abnormal events of 2022's inter-patient test set.
    SPRSOUND_INTER: """\
Patch-Mix CL | unstated | 62.69 | 39.33 | 51.01 | QLung
SG-SCL | unstated | 81.06 | 22.62 | 51.84 | QLung
BTS | unstated | 67.50 | 39.33 | 53.42 | QLung
Audio-CLAP | unstated | 70.67 | 41.90 | 56.29 | QLung
QLung on AST | unstated | 82.48 ± 8.35 | 33.99 ± 8.21 | 58.23 ± 3.83 | QLung
QLung on Audio-CLAP \
| unstated | 74.71 ± 4.04 | 44.88 ± 2.98 | 59.80 ± 3.51 | QLung
BTS-CARD | unstated | | | 61.96 ± 1.50 | BTS-CARD
""",
}


def published_results(benchmark: str) -> pd.DataFrame:
    """The published results of a benchmark of :data:`PUBLISHED`, as text.

    Columns ``method``, ``selection`` (by what the epoch was chosen), ``sp``,
    ``se`` (exact class), ``score`` (percent, with a standard deviation over
    seeds where one was published; empty where nothing was) and ``source``.
    """
    rows = [
        [cell.strip() for cell in row.split("|")]
        for row in PUBLISHED[benchmark].splitlines()
    ]
    columns = ["method", "selection", "sp", "se", "score", "source"]
    table = pd.DataFrame(rows, columns=columns)
    table["selection"] = table["selection"].map(SELECTIONS)
    return table.replace({"source": SOURCES})
