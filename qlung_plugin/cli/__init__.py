"""The ``qlung`` command: a thin layer, which imports what is heavy where it is
used.

Authors
 * qlung_plugin contributors
"""
