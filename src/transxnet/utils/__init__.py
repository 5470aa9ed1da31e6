"""Files, locks, errors, progress and the machine: what every package may use."""
