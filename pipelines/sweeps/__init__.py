"""Many requests as one: grids and series. Imports no torch."""
