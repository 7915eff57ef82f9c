"""1,244 emoji at 32x32 on white in seven groups: emoji.webp is the sheet, index.json the groups and names in its order.

From Microsoft's Fluent emoji, flat style (see LICENSE); names and groups from emojibase-data (MIT). The colours are
rounded to five bits, which halves the file. draw.py makes both files again.
"""
