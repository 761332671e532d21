"""A short clip for the demo, drawn here: a ball that rolls through a room while the camera follows a little."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BALL_BOX", "FRAMES", "FRAME_RATE", "SHADOW_POINT", "draw_clip", "draw_frame"]

WIDTH, HEIGHT, FRAMES, FRAME_RATE = 832, 480, 33, 16
BALL_BOX = {"left": 76, "top": 256, "right": 206, "bottom": 394}
"""The box of the ball and its shadow on the first frame, in pixels."""
SHADOW_POINT = {"x": 140, "y": 381}
"""A point on that shadow."""

_RADIUS, _START_POINT, _BALL_STEP = 56, (140, 320), 15
_PAN_STEP = 2  # pixels a frame
# Threads and the processor would change what x264 writes, and with it the clip's digest and the jobs made of it.
_X264 = {"preset": "veryfast", "crf": "16", "threads": "4", "x264-params": "cpu-independent=1"}


def draw_clip(path: Path) -> None:
    """Write the clip as an H.264 MP4."""
    import av

    background = _draw_background()
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=dict(_X264))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            for packet in stream.encode(av.VideoFrame.from_ndarray(draw_frame(background, number), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def draw_frame(background: "NDArray[np.uint8]", number: int) -> "NDArray[np.uint8]":
    """One frame as height x width x RGB."""
    import cv2

    left = _PAN_STEP * number
    picture = np.ascontiguousarray(background[:, left : left + WIDTH])
    x, y = _START_POINT[0] + (_BALL_STEP - _PAN_STEP) * number, _START_POINT[1]
    cv2.ellipse(picture, (x, y + _RADIUS), (_RADIUS, 10), 0, 0, 360, (58, 46, 40), -1, cv2.LINE_AA)
    cv2.circle(picture, (x, y), _RADIUS, (214, 60, 48), -1, cv2.LINE_AA)
    turn = number * _BALL_STEP / _RADIUS
    for half in (0.0, np.pi):
        spot = (round(x + 30 * np.cos(turn + half)), round(y + 30 * np.sin(turn + half)))
        cv2.circle(picture, spot, 11, (250, 226, 150), -1, cv2.LINE_AA)
    cv2.circle(picture, (x - 18, y - 22), 10, (255, 190, 180), -1, cv2.LINE_AA)
    return picture


def _draw_background() -> "NDArray[np.uint8]":
    """A papered wall and a plank floor, wide enough for the camera's way, with the grain that trackers need."""
    import cv2

    width = WIDTH + _PAN_STEP * FRAMES
    scene = np.zeros((HEIGHT, width, 3), np.uint8)
    scene[:300], scene[300:] = (120, 150, 158), (146, 110, 78)
    for x in range(0, width, 64):
        cv2.rectangle(scene, (x, 0), (x + 31, 299), (132, 164, 172), -1)
        cv2.circle(scene, (x + 16, 60 + (x * 37) % 190), 9, (200, 190, 140), -1, cv2.LINE_AA)
    for x in range(-HEIGHT, width, 90):
        cv2.line(scene, (x, HEIGHT), (x + 140, 300), (110, 80, 56), 3, cv2.LINE_AA)
    cv2.rectangle(scene, (0, 294), (width, 304), (92, 70, 54), -1)
    grain = np.random.default_rng(7).normal(0, 5, scene.shape)
    return np.clip(scene + grain, 0, 255).astype(np.uint8)
