"""Patterns, masks and their metadata, as arrays: what N:M and tile-wise sparsity keep (numpy only)."""
