"""``python -m bench``."""

if __name__ == "__main__":  # worker processes import this module under another name
    from bench.cli import main

    main()
