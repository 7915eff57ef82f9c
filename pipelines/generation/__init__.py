"""From a concrete request to pictures: where to start, the denoise loop, decoding, and the samplers."""
