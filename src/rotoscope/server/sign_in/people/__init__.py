"""A small authorisation server of our own, for one person or a team without an identity provider (`ROTOSCOPE_SIGN_IN`
= `people`): OAuth 2.1 on the SDK's routes, and the pages on which a person signs in and lets a client in.
"""

__all__: list[str] = []
