"""Providers: the states of a prediction, the wire protocols, the loop that polls, and the one HTTP client."""
