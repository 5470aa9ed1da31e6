"""Evaluation of trained models on labeled images."""
