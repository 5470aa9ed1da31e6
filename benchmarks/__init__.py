"""What the package is measured against. Commands and figures are in README.md."""
