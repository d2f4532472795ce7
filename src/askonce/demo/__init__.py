"""The demo: a small fleet asks a scripted provider, with askonce and without, and everything shown is measured.

`load` says what is asked, `worker` is one process of the fleet, `processes` these as seen from outside, `scenes` the
scenes and the Report that they fill. How it looks is the command line's business. Nothing is simulated but the
provider: processes, threads, tasks and the store are real, and so is the SIGKILL. It is no part of the library, and the
only place in the package where `askonce.testing` is used.
"""
