"""From prompt text to what the U-Net is conditioned on.

grammar (text -> tree), schedule (tree -> weighted text of every step), chunks (weighted text -> tokens), tokens
(counting, while somebody types), wildcards and styles (text -> text, before all that); none of these imports torch.
encoders runs one text encoder, embed all of them.
"""
