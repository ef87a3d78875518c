"""`make mutants`: do the unit tests notice when one line of a module that judges is wrong?"""
