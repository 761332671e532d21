"""Videos, sounds and mask videos: probing, limits, remuxing, stills."""
