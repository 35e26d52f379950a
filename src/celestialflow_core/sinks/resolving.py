"""placeholder until the sinks branch is merged"""
