"""Measurements that anyone can repeat. Each prints a table; none is a test."""
