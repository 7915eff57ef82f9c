"""Weights in memory: loaded, kept, shared, and made to fit."""
