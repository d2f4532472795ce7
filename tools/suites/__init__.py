"""The SDKs' own test suites, without askonce and with it around every client's transport: what differs, and why.

``python -m tools.suites [NAME | NAME==VERSION ...]``, or ``make suites``.
"""
