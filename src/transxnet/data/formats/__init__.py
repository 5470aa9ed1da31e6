"""The data formats: class folders, COCO, Pascal VOC, YOLO, label maps, timm readers, WebDataset shards."""
