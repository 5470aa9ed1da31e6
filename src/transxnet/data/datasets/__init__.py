"""Sets of images with their labels, and the PyTorch datasets over them."""
