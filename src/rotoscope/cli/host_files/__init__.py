"""What registries and hosts read of rotoscope: files under `manifests/`, and links that add it to a client.

One module a host; `facts` says what is true, the others put it into each one's form, `writing` compares and writes.
"""

__all__: list[str] = []
