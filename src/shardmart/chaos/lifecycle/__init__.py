"""The life of a fault: its record, the guard that holds it, the register that starts it, and how it is healed."""
