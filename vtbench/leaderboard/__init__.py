"""Rows → numbers → tables, plots and a page. Imports no torch; matplotlib, pyarrow and jinja2 are
imported by the functions that need them."""
