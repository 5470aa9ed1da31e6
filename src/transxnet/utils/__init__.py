"""Utilities for all packages: files, locks, errors, progress, device and environment."""
