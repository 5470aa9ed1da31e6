"""The data formats: class folders, COCO, Pascal VOC, label maps, timm readers, WebDataset shards."""
