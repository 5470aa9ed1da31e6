"""Ablation studies: many runs in one table."""
