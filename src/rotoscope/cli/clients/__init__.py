"""The assistants that rotoscope knows: one table of them, and how a configuration of each is read and changed."""

__all__: list[str] = []
