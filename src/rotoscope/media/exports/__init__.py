"""Masks in the formats of other programs: pure functions from masks with labels to named files, one format a module."""
