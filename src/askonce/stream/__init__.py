"""An answer that arrives in parts: the tape that keeps them, the pump that reads upstream, the log for other processes.

Nothing here knows who asked, who may read, or what is judged of an answer.
"""
