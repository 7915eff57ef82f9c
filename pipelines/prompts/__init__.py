"""From prompt text to what the U-Net is conditioned on.

tokens counts and cuts (no torch: the page asks while somebody types), embed runs the text encoders.
"""
