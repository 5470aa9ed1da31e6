"""Prediction on files, folders, globs and shards."""
