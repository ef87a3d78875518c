"""Chaos Toolkit's face: the actions, probes and controls that experiments name."""
