"""The tests mirror the tree of ui/ and pipelines/; tiny.py builds the models they run on."""
