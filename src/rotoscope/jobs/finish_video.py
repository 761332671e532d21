"""The last stage of a job with a video: say what it is, and make the pictures that stand for it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import OutputLost, UserMistake
from rotoscope.jobs.finish import Finished
from rotoscope.jobs.job import Artifact, Output
from rotoscope.media.vault import Vault

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["finish_video"]


def finish_video(raw: Output, vault: Vault) -> Finished:
    """Look into the video that was fetched. Heavy: run it in a thread.

    Raises:
        OutputLost: it is no video that can be opened, or no longer in the vault.
        StorageFailed: the vault does not take the pictures.
    """
    from rotoscope.media.videos import filmstrip, poster, probe_video

    path = vault.find(raw.artifact.sha256)
    if path is None:
        raise OutputLost("The video is no longer in the results folder.", hint="Look for it at the provider.")
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
    pictures = [*_picture("poster", poster, path, vault), *_picture("filmstrip", filmstrip, path, vault)]
    warnings = () if len(pictures) == len(("poster", "filmstrip")) else ("No picture could be made of the video.",)
    return Finished({}, (Output("video", 0, video, raw.source_url, raw.source_expires_at), *pictures), warnings)


def _picture(role: str, make: "Callable[[Path], Image.Image]", path: Path, vault: Vault) -> Iterator[Output]:
    """A picture of the video; a good video is not lost for want of one."""
    from rotoscope.media.previews import encode_jpeg

    try:
        image = make(path)
    except UserMistake:
        return
    kept = vault.keep(encode_jpeg(image), "image/jpeg")
    size = {"width": image.width, "height": image.height}
    yield Output(role, 0, Artifact(kept.sha256, kept.content_type, kept.size, size))
