"""`python -m bench [ROW...]`: run rows, print a table. Guarded, because workers import it as their main module."""

if __name__ == "__main__":
    import sys

    from bench.cli import main

    sys.exit(main())
