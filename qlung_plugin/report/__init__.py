"""A page to look at and to listen to: one HTML file, which opens offline.

Authors
 * qlung_plugin contributors
"""
