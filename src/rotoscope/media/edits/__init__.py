"""Edits of films: what an edit has changed, and the original laid back outside of its mask."""
