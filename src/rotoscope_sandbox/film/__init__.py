"""The film engine: animatics and masked edits computed with OpenCV and PyAV, without any weights.

It does not understand text. A prompt is shown as a caption over the given pictures; an edit fills what a mask selects
from the frames around it and draws a reference picture into it. Every result says how it was made.
"""

__all__: list[str] = []
