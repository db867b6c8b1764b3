"""Checks of results that need no model: numbers are recomputed or bounded, a module for each subject."""
