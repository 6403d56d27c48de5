"""What is asked of an operator, and the probes to ask it with."""
