"""Providers: the states of a prediction, the wire protocols, the loop that asks, and the one HTTP client."""
