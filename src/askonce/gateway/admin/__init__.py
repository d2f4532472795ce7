"""The admin API below ``/_askonce/api/``: what a View shows, and how answers are invalidated, for programs.

One table of operations (`operations`) says what a request may carry, by JSON Schema. `app` checks requests by it, and
`openapi` writes the document from it, so that neither can say what the other does not. `access` decides who may ask.
Errors are problems of RFC 9457 (`problems`), with one line that says what to do.
"""
