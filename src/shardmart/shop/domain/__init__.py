"""What the shop decides, and nothing of how it is stored, sent or asked: no driver, no clock, no network."""
