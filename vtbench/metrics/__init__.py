"""The numbers: each defined once (`catalogue`), computed once, compared with other code in tests."""
