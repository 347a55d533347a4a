"""``python -m botvision``, for launchers that want a module: torchrun -m botvision train ..."""

from botvision.cli import main

if __name__ == "__main__":
    main()
