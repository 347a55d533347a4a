"""How many mutations are tried: hypothesis's default in the ordinary suite, more by `make fuzz`."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=2000, deadline=None)
