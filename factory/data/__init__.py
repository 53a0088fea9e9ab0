"""Rows of text: how datasets are read, checked, cleaned, ordered and mixed."""
