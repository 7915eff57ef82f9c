"""What was made: pictures on disk, their index, and what is cleared away. Imports no torch."""
