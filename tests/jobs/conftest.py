"""What the tests of jobs may ask for: a provider that follows a script, and a studio that talks to it."""

from postgresql import postgresql, postgresql_url
from scripted_provider import opened, provider, studio, until

__all__ = ["opened", "postgresql", "postgresql_url", "provider", "studio", "until"]
