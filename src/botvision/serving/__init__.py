"""A page to try a trained model: ``server.py`` answers; ``page/`` is what the browser gets."""
