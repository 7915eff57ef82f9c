"""What a checkpoint on disk or on the hub is, read from its configs and headers; no weights."""
