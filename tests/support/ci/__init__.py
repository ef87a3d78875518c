"""What `.ci/run` does: every part of the checks, a second try for tests on real servers, and a table at the end.

Nothing here needs more than the Python that the checkout finds on the machine.
"""
