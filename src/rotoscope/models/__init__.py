"""Models: what a model is, as data, and the pure steps from arguments to its input and from its output to media."""
