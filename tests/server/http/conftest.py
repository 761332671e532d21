"""What the tests of the HTTP server share."""

from http_app import build_http

__all__ = ["build_http"]
