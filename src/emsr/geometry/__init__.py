"""Where things are: boxes and tiles, integers only. Knows nothing of images, files or networks."""
