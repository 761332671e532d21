"""The last stage of a job with a video: say what it is, and make the pictures that stand for it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import OutputLost, UserMistake
from rotoscope.jobs.stages.finish_masks import FinishResult
from rotoscope.media.worker_files import ScratchVault
from rotoscope.store.job_data import MeasuredResult
from rotoscope.store.records import Artifact, Output

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["finish_video"]


def finish_video(raw: Output, path: Path, stem: Path) -> FinishResult:
    """Look into the video that was fetched. Heavy: run it in a worker process.

    Args:
        raw: what is known of the video.
        path: its file.
        stem: the path with which the names of the files that are made begin.

    Raises:
        OutputLost: it is no video that can be opened.
        StorageFailed: the disk does not take the pictures.
    """
    from rotoscope.media.video.videos import filmstrip, poster, probe_video

    tray = ScratchVault(stem)
    try:
        facts = asdict(probe_video(path))
    except UserMistake as error:
        raise OutputLost(
            f"What the model gave cannot be used as a video: {error.message}",
            hint="The run was probably charged; the file is kept and listed under files.",
            code=error.code,
        ) from error
    facts.pop("content_type")
    video = Artifact(raw.artifact.sha256, raw.artifact.content_type, raw.artifact.size, facts)
    pictures = [*_still_outputs("poster", poster, path, tray), *_still_outputs("filmstrip", filmstrip, path, tray)]
    warnings = () if len(pictures) == len(("poster", "filmstrip")) else ("No picture could be made of the video.",)
    outputs = (Output("video", 0, video, raw.source_url, raw.source_expires_at), *pictures)
    return FinishResult(MeasuredResult(), outputs, warnings, new_files=tuple(tray.files))


def _still_outputs(
    role: str, make: "Callable[[Path], Image.Image]", path: Path, tray: ScratchVault
) -> Iterator[Output]:
    """A picture of the video; a good video is not lost for want of one."""
    from rotoscope.media.image.previews import encode_jpeg

    try:
        image = make(path)
    except UserMistake:
        return
    kept = tray.keep(encode_jpeg(image), "image/jpeg")
    size = {"width": image.width, "height": image.height}
    yield Output(role, 0, Artifact(kept.sha256, kept.content_type, kept.size, size))
