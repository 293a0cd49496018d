"""Measuring scripts. They are not installed with the package."""
