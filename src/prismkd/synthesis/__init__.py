"""Prompts to images: guided sampling, calibration of its targets, shards, and the workers that draw them."""
