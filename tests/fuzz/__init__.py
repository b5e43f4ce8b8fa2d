"""Fuzzing: every reader of what somebody else may have made gets valid inputs with parts of them changed."""
