"""The film engine: animatics and masked edits computed with OpenCV and PyAV, without any weights.

It understands no words. A prompt is shown as a caption, storyboards and pictures become panels with slow camera
moves; an edit fills what a mask selects from the frames around it and lays a reference picture into it. Every
result says how it was made.
"""

__all__: list[str] = []
