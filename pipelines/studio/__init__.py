"""What the page and the endpoints talk to: one studio, with all that it needs to check and run a request."""
