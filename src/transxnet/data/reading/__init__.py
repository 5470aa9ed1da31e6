"""Reading files: image decoding, file search, tar shards, masks, packed strings."""
