"""The web server: how it starts, who may come in, and what it answers."""
