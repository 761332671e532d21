"""`rotoscope install` and `rotoscope uninstall`: an assistant's configuration gets our entry, or loses it again."""
