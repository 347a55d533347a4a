"""A page to try a trained model: ``server.py`` answers; ``page.*`` are in the browser."""
