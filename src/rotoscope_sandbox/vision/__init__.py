"""The vision engine: masks and descriptions computed with OpenCV, without any weights.

It does not understand text. Boxes and points are answered by GrabCut, instructions by the most salient region,
descriptions by regions that are named after colour, place and size. Every result says how it was made.
"""

__all__: list[str] = []
