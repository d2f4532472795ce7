"""An answer that arrives in parts: its tape, the pump that reads upstream, and the log for other processes.

Nothing here knows the question, who may read the answer, or how it is judged.
"""
