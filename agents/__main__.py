"""`python -m agents` is the program `rendezvous`."""

from agents.cli import main

if __name__ == "__main__":
    main()
