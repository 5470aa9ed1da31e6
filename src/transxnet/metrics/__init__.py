"""Classification, detection and segmentation metrics: arrays in, numbers out."""
