"""The command ``check``: duplicates, leaks, label errors and suspicious boxes in labeled data."""
