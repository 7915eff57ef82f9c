"""Models on disk and in memory: told apart, listed, loaded, kept, and made to fit."""
