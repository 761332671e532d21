"""Predictions: one run at a provider, from the paying request to its final state."""
