"""The loop that moves calls and results between the engine, the executor and the user: the only place with I/O."""
