"""``python -m codecprior.cli``: the command line without its entry point."""

from codecprior.cli.main import main

if __name__ == "__main__":
    main(prog_name="codecprior")
