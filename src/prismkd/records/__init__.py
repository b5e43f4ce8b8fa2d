"""A run's folder: what lies where in it, who holds it, and what a finished run says. Imports no torch."""
