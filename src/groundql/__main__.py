"""`python -m groundql`: for launchers that start a module, such as torchrun."""

from groundql.cli import main

if __name__ == "__main__":
    main()
