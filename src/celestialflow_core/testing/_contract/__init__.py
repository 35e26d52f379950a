"""The tests of `ExecutorContract`, one module for each subject."""
