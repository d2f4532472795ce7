"""The measurements. A row is a function and its bar; `python -m bench` runs rows, `python -m bench.bars` all of them.

A test says yes or no within milliseconds; a row takes its time and says how much. Nothing here is a mock: servers,
files and processes are real, and processes are really killed.
"""
