"""Ways to run a family: our own denoise loop, or the pipeline of the diffusers library."""
