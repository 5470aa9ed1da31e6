"""Analyses: model cost, effective receptive fields, input-dependent kernels and attention, Grad-CAM."""
