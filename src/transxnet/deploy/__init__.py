"""What turns a trained network into one that serves."""

from transxnet.deploy.reparameterize import reparameterize

__all__ = ["reparameterize"]
