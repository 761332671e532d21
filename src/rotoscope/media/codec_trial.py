"""Whether the codecs that results need work here: a tiny picture and a tiny film are written and read again.

`try_codecs` is made for a worker process, with the limits under which media are decoded: a library that cannot be
loaded, or that crashes, ends that process and not ours.
"""

import io
from base64 import b64decode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from PIL import Image

__all__ = ["CODECS", "try_codecs"]

CODECS = ("PNG", "JPEG", "WEBP", "H.264", "VP9", "AV1")
"""What is tried: the formats of pictures, H.264 written and read, VP9 and AV1 read."""

_SIDE, _FRAMES = 64, 8  # pixels; frames of the film
_RED, _BLUE = (200, 40, 40), (40, 40, 200)  # the colours of the left and the right half
_TOLERANCE = 24  # of 255, for a colour that was compressed
# One key frame of the picture above, as libvpx and SVT-AV1 write it.
_KEY_FRAMES = {
    "VP9": ("vp9", "gkmDQgAD8AP2ADgkHBj2AAAwYAAAZz//8c2///9lx/////CUCg/wEv///w3T/zaOrZQ="),
    "AV1": ("libdav1d", "EgAKCgAAAAKv/41fMAgyHhAA8AI//hhDAPAItJDwphuRNwQg8AuYo2jRPyVYgA=="),
}


def try_codecs() -> dict[str, str]:
    """What is wrong with each of `CODECS`, by its name; an empty text where it works."""
    return {name: _try_codec(name) for name in CODECS}


def _try_codec(name: str) -> str:
    try:
        if name in _KEY_FRAMES:
            picture = _read_key_frame(*_KEY_FRAMES[name])
        elif name == "H.264":
            picture = _write_and_read_film()
        else:
            picture = _write_and_read_picture(name)
    except Exception as error:  # noqa: BLE001 - whatever a codec or its library raises, that is the fault
        return f"{type(error).__name__}: {error}"
    return "" if _has_both_colours(picture) else "what was read is not what was written"


def _two_colours() -> "Image.Image":
    from PIL import Image

    picture = Image.new("RGB", (_SIDE, _SIDE), _BLUE)
    picture.paste(_RED, (0, 0, _SIDE // 2, _SIDE))
    return picture


def _has_both_colours(picture: "Image.Image") -> bool:
    if picture.size != (_SIDE, _SIDE):
        return False
    halves = (picture.convert("RGB").resize((2, 1), 0).tobytes(), bytes((*_RED, *_BLUE)))
    return all(abs(one - other) <= _TOLERANCE for one, other in zip(*halves, strict=True))


def _write_and_read_picture(form: str) -> "Image.Image":
    from PIL import Image

    content = io.BytesIO()
    _two_colours().save(content, form)
    picture = Image.open(io.BytesIO(content.getvalue()), formats=[form])
    picture.load()
    return picture


def _write_and_read_film() -> "Image.Image":
    import av
    import numpy as np

    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=_FRAMES, options={"preset": "ultrafast", "threads": "1"})
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for _ in range(_FRAMES):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(_two_colours()), format="rgb24")))
        film.mux(stream.encode())
    with av.open(io.BytesIO(content.getvalue()), "r", format="mp4") as written:
        frames = list(written.decode(video=0))
    if len(frames) != _FRAMES:
        raise ValueError(f"{len(frames)} of {_FRAMES} frames were read")
    return _frame_picture(frames[0])


def _read_key_frame(codec: str, content: str) -> "Image.Image":
    import av
    from av.video.codeccontext import VideoCodecContext

    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    frames = [*context.decode(av.Packet(b64decode(content))), *context.decode(None)]
    return _frame_picture(frames[0])


def _frame_picture(frame: "VideoFrame") -> "Image.Image":
    from PIL import Image

    return Image.fromarray(frame.to_ndarray(format="rgb24"))
