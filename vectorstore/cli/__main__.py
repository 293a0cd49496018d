"""`python -m vectorstore.cli`: the same as the script `vectorstore`."""

from vectorstore.cli import main

main()
