"""Run folders, configurations, recipes, and loading trained models."""
