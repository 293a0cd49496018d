"""`python -m benchmarks.peers`: see run.py and README.md."""

from benchmarks.peers.run import main

if __name__ == "__main__":
    main()
