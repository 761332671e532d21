"""Whole jobs on a vault that is not on this machine's disk: addresses are https, and there are no paths."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from vaults import STORE_URL, MemoryVault

from rotoscope.contracts.arguments import BoxArgument, GetJob, SegmentImage
from rotoscope.contracts.results import SegmentResult
from rotoscope.models.access import SANDBOX_URL
from rotoscope.server.present.text import result_answer
from rotoscope.settings import Settings
from rotoscope.studio.preview import keep_view, make_view
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import build_sandbox

pytestmark = pytest.mark.anyio

Open = Callable[..., AbstractAsyncContextManager[Studio]]
HELMET = BoxArgument(left=100, top=40, right=420, bottom=500)


async def segment(studio: Studio, image: str) -> SegmentResult:
    arguments = SegmentImage(image=image, box=HELMET)
    result = await studio.perform("segment_image", arguments, "local", 60.0)
    assert isinstance(result, SegmentResult)
    assert result.status == "succeeded", result.error
    return result


async def test_a_job_runs_from_its_picture_to_its_overlay(
    settings: Settings, opened: Open, photo: Path, tmp_path: Path
) -> None:
    vault = MemoryVault(tmp_path / "scratch")
    sandbox = build_sandbox(tmp_path / "sandbox", pace=0.0, public_url=SANDBOX_URL)
    async with opened(settings, sandbox, vault=vault) as studio:
        result = await segment(studio, str(photo))
        mask, overlay = result.masks[0].media, result.overlay
        assert overlay is not None
        for file in (mask, overlay):
            assert (file.url, file.path) == (f"{STORE_URL}/{file.sha256}.{file.url.rpartition('.')[2]}", "")
            assert file.sha256 in vault.objects
        assert overlay.url in str(result_answer(result).content)

        view = await make_view(studio, f"job://{result.job_id}/overlay", "local")
        assert view.place == overlay.url
        kept = await keep_view(studio, overlay.uri, "local")
        assert (kept.url, kept.path) == (f"{STORE_URL}/{kept.sha256}.jpg", "")

        again = await segment(studio, overlay.uri)
        assert again.job_id != result.job_id

        del vault.objects[mask.sha256]
        await studio.perform("get_job", GetJob(job_id=result.job_id), "local", 60.0)
        assert mask.sha256 in vault.objects
    assert not vault.open_copies
    assert not list(vault.scratch.iterdir())
    assert not (settings.home / "vault").exists()
