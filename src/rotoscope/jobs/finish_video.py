"""The last stage of a job with a video: say what it is, and make the pictures that stand for it."""

from dataclasses import asdict

from rotoscope.errors import OutputLost
from rotoscope.jobs.finish import Finished
from rotoscope.jobs.job import Artifact, Output
from rotoscope.media.vault import Vault

__all__ = ["finish_video"]


def finish_video(raw: Output, vault: Vault) -> Finished:
    """Look into the video that was fetched. Heavy: run it in a thread.

    Raises:
        OutputLost: it is no longer in the vault.
        UserMistake: it is no video that can be opened.
        StorageFailed: the vault does not take the pictures.
    """
    from rotoscope.media.previews import encode_jpeg
    from rotoscope.media.videos import filmstrip, poster, probe_video

    path = vault.find(raw.artifact.sha256)
    if path is None:
        raise OutputLost("The video is no longer in the results folder.", hint="Call the tool again.")
    facts = asdict(probe_video(path))
    facts.pop("content_type")
    video = Artifact(raw.artifact.sha256, raw.artifact.content_type, raw.artifact.size, facts)
    outputs = [Output("video", 0, video, raw.source_url, raw.source_expires_at)]
    for role, image in (("poster", poster(path)), ("filmstrip", filmstrip(path))):
        kept = vault.keep(encode_jpeg(image), "image/jpeg")
        size = {"width": image.width, "height": image.height}
        outputs.append(Output(role, 0, Artifact(kept.sha256, kept.content_type, kept.size, size)))
    return Finished({}, tuple(outputs), ())
