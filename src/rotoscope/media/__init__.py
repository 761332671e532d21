"""Media: what pictures, masks and captions are, with no socket and no provider in sight."""
