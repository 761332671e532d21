"""Worker processes for work that must be limited and can be ended: decoding, transcoding, pixels."""
