"""From a name or a folder to labelled images, batches and transforms."""
