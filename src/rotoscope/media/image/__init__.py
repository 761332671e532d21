"""Pictures and masks. Pure, but for the decoding and encoding of files."""
