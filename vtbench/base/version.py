"""The version of vtbench."""

__version__ = "0.1.0"
