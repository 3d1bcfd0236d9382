"""The sequential checks: each walks a store and the queue machine together into one corner of the semantics.

A check is an async function of a Pair whose name says what must hold; the pair compares every answer and every dump,
so a check states an expectation only where it must be sure that it has come to its corner at all.
"""
