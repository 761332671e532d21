"""What the tests of the viewer share."""

from http_app import build_http

__all__ = ["build_http"]
