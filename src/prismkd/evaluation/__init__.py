"""Measuring: students on labeled test images, and sets of synthetic images against real ones."""
