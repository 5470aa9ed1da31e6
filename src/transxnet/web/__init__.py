"""The web page for trying a trained model in the browser."""
