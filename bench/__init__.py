"""The numbers. A row is a function and its bar; `python -m bench` runs rows, `python -m bench.bars` all of them.

Beside the tests and not among them: a test says yes or no within milliseconds, a row takes its time and says how much.
Nothing here is a mock: real servers, real files, real processes that are really killed.
"""
