"""Data: recognition of formats, labeled images, batches and transforms."""
