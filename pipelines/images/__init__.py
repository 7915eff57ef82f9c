"""Pictures as values: reading, storing, masks, the place that is worked on, filling, grids.

Pure functions on PIL pictures and 8-bit numpy arrays, and one store of files. Imports Pillow, numpy and errors.py;
never torch. No function changes its arguments or any of Pillow's global settings, so all may run in any thread.

files     what lies in a picture file, read by hand: a module for each kind that is accepted
header    the size a file claims, read before any decoder sees it
convert   the one documented conversion: header and size checks, EXIF turn, colours to sRGB, 8-bit RGB or RGBA
colours   depth, palette, ICC profile, gamma and primaries to 8-bit sRGB
slots     how many pictures are decoded at a time
isolated  decodes in a process of its own what the header does not bound
store     ImageStore keeps converted pictures as plain PNG under the SHA-256 of the file; proxy() is for the editor
mask      from_editor, from_upload, from_transparency, grow, prepare (invert, then grow, then blur), is_empty
geometry  Box: the place in the picture that is shown at the working size; cut out, paste back, expand
fill      lets the colours around a mask bleed into it
grid      contact sheets with labels
blurring  the Gaussian with a finite kernel that mask, geometry and fill share

Contract of masks: mode L, the size of their picture, 255 = repaint, 0 = keep; what lies between is blended.
Contract of `paste`: where the overlay is 0, every byte of the source comes back, alpha and the colours hidden under
alpha 0 included. The way of a picture through an inpainting run:

    user_mask = mask.prepare(mask.from_upload(upload, picture.size), invert=False, grow=4, blur=4)
    picture, user_mask = geometry.expand(picture, user_mask, left=64)               # outpainting only
    box = geometry.box_around(user_mask, 32, picture.size, (512, 512))              # or geometry.box_for(...)
    start = geometry.cut(convert.flatten(picture), box, (512, 512))
    ...                                                                             # result: 512 x 512, RGB
    final = geometry.paste(picture, result, box, user_mask)

To add a file format: see files/__init__.py.
"""
