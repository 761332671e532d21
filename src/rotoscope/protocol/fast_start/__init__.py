"""The fast start: answers the first requests of a stdio session from stored replies while the SDK loads.

Then it hands the session over to the server. It knows nothing of what the server offers: the stored replies and the
function that loads the server come from its caller.
"""
