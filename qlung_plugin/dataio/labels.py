"""The classes, in the order that is kept everywhere.

Apart from what computes with them, which takes a second to import.

Authors
 * qlung_plugin contributors
"""

LABELS = ("normal", "crackle", "wheeze", "both")
TWO_CLASSES = ("normal", "abnormal")
