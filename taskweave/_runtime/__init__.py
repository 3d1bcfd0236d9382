"""The anyio runtime: thin loops that feed the engine and perform what it asks for."""
