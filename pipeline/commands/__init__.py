"""The commands: what a person can ask for. Each imports its step when it is called."""
