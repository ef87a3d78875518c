"""The console: one page that answers whether the shop is well, and if not, where."""
