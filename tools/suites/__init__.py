"""The SDKs' own test suites, without us and with every client's transport wrapped by ours: what differs, and why.

``python -m tools.suites [NAME | NAME==VERSION ...]``, or ``make suites``.
"""
