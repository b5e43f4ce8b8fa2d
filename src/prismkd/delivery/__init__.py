"""A student leaves the run: as a folder for other tools, on the hub, and at work on files."""
