"""What a person sees of a run while it lasts: the log and the progress bar."""
