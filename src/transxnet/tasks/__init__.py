"""What is trained, evaluated and predicted, and how."""
