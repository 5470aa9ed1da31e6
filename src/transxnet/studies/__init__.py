"""Studies: models compared on the same folds and seeds, with intervals and paired tests."""
