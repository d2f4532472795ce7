"""Makes the dictionary with which answers are compressed (`askonce.core.zstd`), and says what it gains."""
