"""LoRA files: find, read, attach, write and merge them.

find         the LoRA that a tag names (tags: prompts/lora_tags.py)    no torch
layer_names  layers of a model <-> the names that files give them
delta        what a file holds for one layer, and the change of the weight that it stands for
assemble     the tensors of one layer -> its part, checked against the layer
alphas       what the header, or the adapter_config.json beside the file, says of alpha
foreign      files for transformers, turned by the library
read         file -> Adapter, checked against the model
apply        `with applied(pipe, uses)`: beside the weights; `merged`: into them. Both restore on exit
cache        adapters that were read, kept for the next run
write        trained parts -> files of kohya's and of peft's kind
merge        model and adapters -> a whole new checkpoint

Start reading at read.py, then apply.py. To read another kind of file, add its suffixes to library/read/lora_keys.py
and a part that knows its `delta` to delta.py. What a file holds and is not used becomes a note of its Adapter.
"""
