"""Sign-in over HTTP: who may call, and on whose behalf. One module a way: `tokens`, `issuer`, `people`.

Every way is a `SignIn`, which is all that the HTTP app knows of it.
"""

__all__: list[str] = []
