"""``python -m taskito``: the command ``taskito`` of this interpreter, where its script is not on the path."""

from taskito.cli.main import main

if __name__ == "__main__":
    main()
