"""SpeechBrain plugin for respiratory sound classification with QLung.

Components are named in YAML by their full path, such as
``!new:qlung_plugin.nnet.margins.QualityMargin``; importing the package itself
loads nothing.
"""

__version__ = "0.2.0"
