"""The formats that DATA may have: class folders, COCO, Pascal VOC, label maps, timm readers, WebDataset shards."""
