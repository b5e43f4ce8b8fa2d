"""Benchmarks as commands: ``prismkd bench guidance`` measures what guidance costs."""
