"""Suites: which images, in which order, from where; and batches of them."""
