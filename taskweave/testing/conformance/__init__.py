"""The conformance suite as a program and as tests.

    python -m taskweave.testing.conformance mypkg:make_store
    pytest --pyargs taskweave.testing.conformance --store mypkg:make_store

`mypkg:make_store` is a function of a namespace that returns an async context manager of an open store on it, or the
address of a store that taskweave knows.
"""
