"""What programs call: the endpoints beside the page."""
