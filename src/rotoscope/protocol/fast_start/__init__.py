"""The front: answers a stdio session's opening from stored replies while the SDK loads, then hands the session over."""
