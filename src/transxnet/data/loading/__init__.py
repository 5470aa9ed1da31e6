"""Batches: preprocessing, augmentation, samplers, loaders and Lightning data modules."""
