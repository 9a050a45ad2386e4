"""Fuzzing of every parser that reads bytes from outside: targets, seeds made from our own code, a mutator and a work counter.

`make fuzz ARGS="--seconds 60 response"` runs atheris; the tests run the same targets with a seeded mutator.
"""
