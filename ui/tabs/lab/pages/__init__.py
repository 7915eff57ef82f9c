"""The pages of the lab, one file each, with a LOOK. They never import each other."""
