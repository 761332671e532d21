"""What the tests of the store may ask for: a database, which is a parameter, and a studio with a scripted provider."""

from scripted_provider import opened, provider, studio, until
from store_database import database

__all__ = ["database", "opened", "provider", "studio", "until"]
