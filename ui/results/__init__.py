"""The right side of a tab: pictures, progress, curves, and what can be done with a result."""
