"""Deployment of trained networks: inference form, export to files, quantization."""
