"""What it takes to receive files over HTTP."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from rotoscope.server.lazy_studio import LazyStudio
    from rotoscope.studio.uploads import Uploads

__all__ = ["make_upload_routes"]


def make_upload_routes(lazy_studio: "LazyStudio", public_url: str) -> "list[BaseRoute]":
    """The routes of uploads, for the HTTP app to list among its own.

    Args:
        lazy_studio: the studio of this process.
        public_url: the address at which clients reach the server, without a slash at its end.
    """
    from rotoscope.server.http.uploads import UploadSite, upload_routes

    async def open_uploads() -> "Uploads":
        return (await lazy_studio.studio()).uploads

    return upload_routes(UploadSite(open_uploads, public_url))
