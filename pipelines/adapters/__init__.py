"""LoRA files: find, read, attach, write and merge them.

tags     <lora:name:te:unet> in a prompt                           no torch
keys     tensor names of a file -> layer and role; family          no torch
find     the LoRA that a tag names                                 no torch
names    layers of a model <-> the names that files give them
parts    what a file holds for one layer, and the change of the weight that it stands for
assemble the tensors of one layer -> its part, checked against the layer
alphas   what the header, or the adapter_config.json beside the file, says of alpha
foreign  files for transformers, turned by the library
read     file -> Adapter, checked against the model
apply    `with applied(pipe, uses)`: beside the weights; `merged`: into them. Both restore on exit
write    trained parts -> files of kohya's and of peft's kind
merge    model and adapters -> a whole new checkpoint

Start reading at read.py, then apply.py. To read another kind of file, add its suffixes to library/read/lora_keys.py and a
part that knows its `delta` to delta.py. What a file holds and is not used becomes a note of its Adapter.
"""
