"""Built-in sample data sets."""
