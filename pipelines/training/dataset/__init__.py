"""Pictures and captions that a run learns from: found, unpacked, checked, and sorted by size. Imports no torch."""
