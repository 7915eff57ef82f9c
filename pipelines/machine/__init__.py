"""What this computer has: devices, memory, and packages whose import waits. Imports values only."""
