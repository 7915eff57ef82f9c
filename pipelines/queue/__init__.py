"""Jobs, the queue they wait in, and how a running one is told to end early. Imports no torch."""
