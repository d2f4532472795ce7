"""The demo: several processes ask a scripted provider, with and without askonce, and everything shown is measured.

`load` says what is asked. `worker` is one process, and `processes` controls the processes from outside. `scenes` has
the scenes and the Report that they fill. The command line prints the Report. Only the provider is simulated: processes,
threads, tasks, the store and the SIGKILL are real. The demo is not part of the library. It is the only place in the
package that uses `askonce.testing`.
"""
