"""The pure state machine of one manager's tasks: no thread, clock, sleep, random number or file."""
