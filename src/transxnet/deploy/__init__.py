"""Inference form, export to files, and quantization of trained networks."""
