"""One training run: its folder, its process, its loop, its samples, and what comes of it."""
