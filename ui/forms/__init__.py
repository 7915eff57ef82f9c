"""The left side of a tab: controls made from a request's fields, and the groups of them that tabs share."""
