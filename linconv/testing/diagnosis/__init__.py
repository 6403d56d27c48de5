"""Why an operator fails: causes in words, and the entries that are wrong."""
